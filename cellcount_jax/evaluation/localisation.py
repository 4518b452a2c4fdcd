"""What the points of one evaluation tell beyond one decoder and one radius."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from cellcount_jax.data.sample import Sample
from cellcount_jax.evaluation import metrics
from cellcount_jax.evaluation.matching import match_labels
from cellcount_jax.inference import detect as decode
from cellcount_jax.inference.counter import Count
from cellcount_jax.methods.base import Readout

GAME_LEVELS = (1, 2, 3)


def point_errors(
    counts: Sequence[Count], samples: Sequence[Sample], readout: Readout, *, radius: float
) -> dict[str, Any]:
    """Every fitted decoder, centroids in instance masks, and GAME.

    Args:
      counts: of the samples, by a counter with `readout`, at the samples' own scale.
      samples: labelled.
      readout: fitted.
      radius: matching radius in pixels (of the last axis, if the spacing of volumes is known).

    Returns:
      For each decoder `NAME_threshold, NAME_f1, NAME_precision, NAME_recall, NAME_mae,
      NAME_bias`; `label_f1, label_precision, label_recall, label_macro_f1` where every sample has
      an instance mask; `game_LEVEL` of the points. Empty if the method gives no points.
    """
    found = [c.points for c in counts if c.points is not None]
    dots = [s.dots for s in samples if s.dots is not None]
    if readout.points_map is None or not len(found) == len(dots) == len(samples):
        return {}
    errors: dict[str, Any] = {}
    if len(readout.fitted) > 1:
        for decoder, threshold in readout.fitted:
            points = [
                decode.find_points(
                    c.maps[readout.points_map],
                    decoder=decoder,
                    threshold=threshold,
                    reference=readout.reference,
                )[0]
                for c in counts
            ]
            here = _errors(points, dots, radius, spacing_of(samples)) | {"threshold": threshold}
            errors |= {f"{decoder}_{key}": value for key, value in here.items()}
    errors |= in_labels(found, samples)
    for level in GAME_LEVELS:
        values = [
            metrics.game_points(p, d, s.image.shape[:-1], level=level)
            for p, d, s in zip(found, dots, samples, strict=True)
        ]
        errors[f"game_{level}"] = float(np.mean(values))
    return errors


def _errors(
    found: Sequence[np.ndarray],
    dots: Sequence[np.ndarray],
    radius: float,
    spacing: Sequence[float] | None,
) -> dict[str, Any]:
    matched = metrics.localisation(found, dots, radius=radius, spacing=spacing)
    counted = metrics.count_errors([len(p) for p in found], [len(d) for d in dots])
    return {
        **{key: matched[key] for key in ("f1", "precision", "recall")},
        **{key: counted[key] for key in ("mae", "bias")},
    }


def in_labels(found: Sequence[np.ndarray], samples: Sequence[Sample]) -> dict[str, Any]:
    """Points against instance masks (`matching.match_labels`); empty if a sample has none."""
    if not samples or any(s.labels is None for s in samples):
        return {}
    matched = []
    for points, sample in zip(found, samples, strict=True):
        assert sample.labels is not None
        matched.append(match_labels(points, sample.labels))
    result = metrics.localisation_of_sums(metrics.label_sums(matched))
    keys = ("f1", "precision", "recall", "macro_f1")
    return {f"label_{key}": result[key] for key in keys}


def spacing_of(samples: Sequence[Sample]) -> tuple[float, ...] | None:
    """The spacing that all volumes share, by which distances are measured; None for images."""
    known = {s.spacing for s in samples}
    if len(known) != 1 or any(s.image.ndim != 4 for s in samples):
        return None
    return known.pop()
