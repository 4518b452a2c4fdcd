"""Errors of trained nuclei counters on held-out images, by group: the table of the model card.

    python -m benchmarks.accuracy.nuclei runs/nuclei_quick runs/nuclei_quick_unseen

Every image of the run's test split is counted twice, as a new one would be: with the nuclear
diameter estimated from the image, and with the true mean diameter given. Points match dots
within half the image's true mean nuclear diameter. Writes `nuclei.json` and `nuclei.md` into
each run's folder.
"""

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks.output import markdown
from cellcount_jax.data import cell_diameter
from cellcount_jax.data.sample import Sample
from cellcount_jax.datasets import load
from cellcount_jax.evaluation import metrics
from cellcount_jax.evaluation.matching import match_points
from cellcount_jax.inference.counter import Counter
from cellcount_jax.runtime.setup import configure_process

COLUMNS = {
    "n": "images",
    "diameter": "diameter (px)",
    "cells": "cells per image",
    "mae": "MAE",
    "mape": "MAPE (%)",
    "bias": "bias",
    "f1": "F1",
    "precision": "precision",
    "recall": "recall",
    "points_mae": "MAE of points",
    "points_mape": "MAPE of points (%)",
}


def main() -> None:
    """Evaluates each run and prints its tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+", help="folders of finished runs")
    options = parser.parse_args()
    configure_process()
    for run in options.runs:
        found = evaluate_run(run)
        (run / "nuclei.json").write_text(json.dumps(found, indent=2) + "\n")
        text = "\n\n".join(f"{name}\n\n{table(groups)}" for name, groups in found["by"].items())
        (run / "nuclei.md").write_text(text + "\n")
        print(f"{run}: {found['data']}\n\n{text}\n")


def evaluate_run(run: Path) -> dict[str, Any]:
    """Figures by source of the diameter and by group; `all` is the whole test split."""
    counter = Counter.load(run)
    counter = dataclasses.replace(counter, predict=jax.jit(counter.stage.predict))
    data, seed = counter.facts["config"]["data"], counter.facts["config"]["seed"]
    source = load.load_dataset(data["name"], protocol=data["protocol"], seed=seed)
    samples = source.splits["test"]
    by = {}
    for name, given in (("size estimated", False), ("size given", True)):
        rows = [count_one(counter, sample, given=given) for sample in samples]
        groups = {"all": rows}
        for key in sorted({s.group for s in samples}):
            groups[key] = [r for r, s in zip(rows, samples, strict=True) if s.group == key]
        by[name] = {key: summary(part) for key, part in groups.items()}
    return {"data": source.description, "by": by}


def count_one(counter: Counter, sample: Sample, *, given: bool) -> dict[str, Any]:
    """True and predicted numbers, points and matches of one image."""
    assert sample.labels is not None
    diameter = cell_diameter.mean_diameter(sample.labels)
    found = counter.count(sample.image, diameter=diameter if given else None)
    assert found.points is not None
    assert sample.dots is not None
    assert diameter is not None
    return {
        "true": len(sample.dots),
        "predicted": found.count,
        "points": len(found.points),
        "diameter": diameter,
        "matches": match_points(found.points, sample.dots, radius=diameter / 2),
    }


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Errors over images."""
    true = np.array([r["true"] for r in rows], float)
    errors = metrics.count_errors([r["predicted"] for r in rows], true)
    points = metrics.count_errors([r["points"] for r in rows], true)
    places = metrics.localisation([r["matches"] for r in rows])
    return {
        **errors,
        "diameter": float(np.mean([r["diameter"] for r in rows])),
        "cells": float(true.mean()),
        **{key: places[key] for key in ("f1", "precision", "recall")},
        **{f"points_{key}": points[key] for key in ("mae", "mape", "bias")},
    }


def table(groups: dict[str, dict[str, Any]]) -> str:
    """Markdown, a row per group."""
    rows = ([name, *(_shown(key, found[key]) for key in COLUMNS)] for name, found in groups.items())
    return markdown(["group", *COLUMNS.values()], rows)


def _shown(key: str, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if key in ("f1", "precision", "recall") else f"{value:.4g}"


if __name__ == "__main__":
    main()
