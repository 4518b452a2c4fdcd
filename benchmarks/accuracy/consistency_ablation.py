"""The ablation of focal consistency: Gaussian targets, inverse distances, unlabelled images.

    python -m benchmarks.accuracy.consistency_ablation --data vgg --preset quick --seeds 0 1 2
    python -m benchmarks.accuracy.consistency_ablation --data bbbc050 --preset "" --only consistency

A run that ended before is not trained again. Writes `runs/ablation_consistency_DATA_PRESET.json`,
`.md` (the table: a row per variant, mean and standard deviation over seeds) and `.png` (F1 and
error of the number of points, a bar per variant, a dot per seed).
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from benchmarks.accuracy import seeds
from benchmarks.accuracy.prototype_ablation import mean_and_spread

VARIANTS: Mapping[str, tuple[str, str]] = {
    "gaussian": ("Gaussian", "gaussian"),
    "supervised": ("inverse distance", "supervised"),
    "consistency": ("inverse distance, unlabelled images", ""),
}
"""Name -> words of the table, addition to the preset."""

COLUMNS = {
    "f1": "F1",
    "precision": "precision",
    "recall": "recall",
    "n_points_mae": "MAE by points",
    "n_points_bias": "bias",
    "mae": "MAE of the count",
    "label_f1": "F1 in masks",
    "components_f1": "components: F1",
    "components_mae": "MAE",
    "peaks_f1": "peaks: F1",
    "peaks_mae": "MAE",
    "seconds_train": "seconds",
}


def main() -> None:
    """Trains what is missing, prints the table and writes the files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", choices=("vgg", "bbbc050", "light_sheet"), default="vgg")
    parser.add_argument("--preset", default="quick")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", choices=sorted(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--set", nargs="*", default=[], help="config fields, for every variant")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    options = parser.parse_args()
    results = {}
    for name in options.only:
        words, addition = VARIANTS[name]
        preset = "_".join(filter(None, (options.preset, addition)))
        config = ":".join(filter(None, (f"configs/consistency_{options.data}.py", preset)))
        results[words] = [
            seeds.run(config, seed, options.set, options.runs) for seed in options.seeds
        ]
    stem = options.runs / f"ablation_consistency_{options.data}_{options.preset or 'full'}"
    text = table(results)
    stem.with_suffix(".json").write_text(json.dumps(results, indent=2) + "\n")
    stem.with_suffix(".md").write_text(text + "\n")
    plot(results).savefig(stem.with_suffix(".png"), dpi=150)
    print(text)


def table(results: Mapping[str, Sequence[dict]]) -> str:
    """Markdown: a row per variant; columns that no run has are left out."""
    every = [r for rows in results.values() for r in rows]
    keys = [k for k in COLUMNS if any(r.get(k) is not None for r in every)]
    lines = ["| | " + " | ".join(COLUMNS[k] for k in keys) + " |", "|" + "---|" * (len(keys) + 1)]
    for name, rows in results.items():
        cells = [
            mean_and_spread([r.get(key) for r in rows], digits=3 if "f1" in key else 2)
            for key in keys
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


PANELS = {"f1": "F1", "n_points_mae": "MAE by points", "mae": "MAE of the count"}
"""What is drawn; the count of Gaussian maps is their integral."""


def plot(results: Mapping[str, Sequence[dict]]) -> Figure:
    """A bar per variant, each seed as a dot; F1 from 0.5 or the least value below it."""
    figure = Figure(figsize=(3.6 * len(PANELS), 0.5 * len(results) + 1.2), layout="constrained")
    panels = figure.subplots(1, len(PANELS), sharey=True)
    for axes, (key, title) in zip(panels, PANELS.items(), strict=True):
        every = []
        for i, rows in enumerate(results.values()):
            values = [r[key] for r in rows if r.get(key) is not None]
            every += values
            if values:
                axes.barh(i, np.mean(values), color="#8ecae6")
                axes.plot(values, [i] * len(values), "o", color="#023047", markersize=3)
        axes.set_yticks(range(len(results)), results)
        axes.set_title(title, fontsize=9)
        if key == "f1":
            axes.set_xlim(min([0.5, *every]), 1.0)
    panels[0].invert_yaxis()
    return figure


if __name__ == "__main__":
    main()
