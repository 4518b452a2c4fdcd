"""Ablation of focal consistency: Gaussian targets, inverse distances, unlabelled images.

    python -m benchmarks.accuracy.consistency_ablation --data vgg --preset quick --seeds 0 1 2
    python -m benchmarks.accuracy.consistency_ablation --data bbbc050 --preset "" --only consistency

Finished runs are not trained again. Writes `runs/ablation_consistency_DATA_PRESET.json`, `.md` (a
row per variant, mean and standard deviation over seeds) and `.png` (F1 and errors of the number of
points and of the count; a bar per variant, a dot per seed).
"""

import argparse
from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure

from benchmarks.accuracy import ablation, seeds

VARIANTS: Mapping[str, tuple[str, str]] = {
    "gaussian": ("Gaussian", "gaussian"),
    "supervised": ("inverse distance", "supervised"),
    "consistency": ("inverse distance, unlabelled images", ""),
}
"""Name -> title in the table, suffix of the preset."""

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

PANELS = {"f1": "F1", "n_points_mae": "MAE by points", "mae": "MAE of the count"}
"""Figures in the plot; the count of Gaussian maps is their integral."""


def main() -> None:
    """Trains missing runs, prints the table and writes the files."""
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
        title, suffix = VARIANTS[name]
        preset = "_".join(filter(None, (options.preset, suffix)))
        config = ":".join(filter(None, (f"configs/consistency_{options.data}.py", preset)))
        results[title] = [
            seeds.run(config, seed, options.set, options.runs) for seed in options.seeds
        ]
    stem = options.runs / f"ablation_consistency_{options.data}_{options.preset or 'full'}"
    ablation.write(stem, results, table(results), plot(results))


def table(results: ablation.Results) -> str:
    """Markdown: a row per variant; columns that no run has are left out."""
    every = [r for runs in results.values() for r in runs]
    columns = {k: v for k, v in COLUMNS.items() if any(r.get(k) is not None for r in every)}
    return ablation.table(results, columns, digits=lambda key: 3 if "f1" in key else 2)


def plot(results: ablation.Results) -> Figure:
    """A panel per figure; F1 from 0.5 or the smallest value below it."""
    figure = Figure(figsize=(3.6 * len(PANELS), 0.5 * len(results) + 1.2), layout="constrained")
    panels = figure.subplots(1, len(PANELS), sharey=True)
    for axes, (key, title) in zip(panels, PANELS.items(), strict=True):
        drawn = ablation.bars(axes, results, key, title=title)
        if key == "f1":
            axes.set_xlim(min([0.5, *drawn]), 1.0)
    panels[0].invert_yaxis()
    return figure


if __name__ == "__main__":
    main()
