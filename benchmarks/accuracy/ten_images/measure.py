"""Counts of a counter, and the figures of any method on the counted images."""

from typing import Any

import numpy as np

from cellcount_jax.data.sample import Sample
from cellcount_jax.evaluation import metrics
from cellcount_jax.evaluation.matching import match_points
from cellcount_jax.inference.counter import Counter

MIN_CELLS = 20
"""Relative errors of images with fewer cells say little."""

MAX_RATIO = 1.5
"""Count and number of points further apart than this factor are listed."""


def by_counter(counter: Counter, samples: list[Sample]) -> tuple[list[float], list[np.ndarray]]:
    """Counts and points."""
    found = [counter.count(s.image, spacing=s.spacing) for s in samples]
    return [f.count for f in found], [np.asarray(f.points) for f in found]


def errors(
    counts: list[float], points: list[np.ndarray] | None, samples: list[Sample], radius: float
) -> dict[str, Any]:
    """Figures of one method on the tested images, and each image's counts."""
    true = np.array([s.count or 0 for s in samples], float)
    filled = true >= MIN_CELLS
    every = metrics.count_errors(counts, true)
    relative = metrics.count_errors(np.array(counts)[filled], true[filled])
    found = {"mae": every["mae"], "bias": every["bias"], "mape": relative["mape"]}
    rows = {"name": [s.name for s in samples], "true": true.tolist(), "count": list(counts)}
    if points is not None:
        matches = [
            match_points(p, s.dots, radius=radius, spacing=s.spacing)
            for p, s in zip(points, samples, strict=True)
        ]
        found["f1"] = metrics.localisation(matches)["f1"]
        rows["points"] = [len(p) for p in points]
        ratio = (np.array(counts) + 1) / (np.array(rows["points"]) + 1)
        found["apart"] = int(np.sum(np.maximum(ratio, 1 / ratio) > MAX_RATIO))
    return found | {"images": rows, "cells": float(true.mean())}
