"""Ablations of CountXplain: one density network per seed, every variant on top of it.

    python -m benchmarks.prototype_ablation --data vgg --preset quick --seeds 0 1 2
    python -m benchmarks.prototype_ablation --data mbm --preset "" --only "no diversity loss" paper

Variants: without diversity loss, without prototype-to-feature loss, K = 2, 4, 6, 8, 10, tau 0, the
paper's own formula, weights that cannot be negative, and weights refitted after the projection or
kept.
A run that ended before is not trained again. Writes
`runs/ablation_DATA_PRESET.json`, `.md` (the table) and `.png` (errors, distances, purity).
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from benchmarks import accuracy

VARIANTS: Mapping[str, tuple[str, ...]] = {
    "default": (),
    "no diversity loss": ("prototypes.diversity_weight=0.0",),
    "no feature loss": ("prototypes.feature_weight=0.0",),
    **{f"K = {k}": (f"prototypes.n_prototypes={k}",) for k in (2, 4, 6, 8, 10)},
    "tau = 0": ("prototypes.tau=0.0",),
    "paper": (
        "prototypes.density_inputs=all",
        "prototypes.reduction=mean",
        "prototypes.density_scale=1.0",
    ),
    "additive": ("prototypes.density_inputs=additive",),
    "weights refitted": ("prototypes.refit_density=True",),
    "weights kept": ("prototypes.refit_density=False",),
}

COLUMNS = {
    "mae": "MAE",
    "projected_mae": "MAE per sample",
    "unprojected_mae": "before projection",
    "extractor_mae": "CSRNet",
    "unprojected_squared_distance_cell_min": "cells, least d²",
    "unprojected_squared_distance_background_min": "background, least d²",
    "box_purity_cell": "cell purity",
    "random_box_purity_cell": "at random",
    "box_purity_background": "background purity",
    "random_box_purity_background": "at random",
    "deletion_drop": "deletion",
    "random_deletion_drop": "at random",
}


def main() -> None:
    """Trains what is missing, prints the table and writes the files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", choices=("vgg", "mbm", "dcc", "idcia"), default="vgg")
    parser.add_argument("--preset", default="quick")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", choices=sorted(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    options = parser.parse_args()
    results = {
        name: variant(options.data, options.preset, VARIANTS[name], options.seeds, options.runs)
        for name in options.only
    }
    stem = options.runs / f"ablation_{options.data}_{options.preset or 'full'}"
    text = table(results)
    stem.with_suffix(".json").write_text(json.dumps(results, indent=2) + "\n")
    stem.with_suffix(".md").write_text(text + "\n")
    plot(results).savefig(stem.with_suffix(".png"), dpi=150)
    print(text)


def variant(
    data: str, preset: str, fields: Sequence[str], seeds: Sequence[int], runs: Path
) -> list[dict]:
    """Results of one variant, one per seed."""
    base, top = (
        ":".join(filter(None, (f"configs/{method}_{data}.py", preset)))
        for method in ("csrnet", "countxplain")
    )
    found = []
    for seed in seeds:
        accuracy.run(base, seed, [], runs)
        origin = runs / f"{accuracy.run_name(base, [])}_seed{{seed}}"
        found.append(accuracy.run(top, seed, [f"init_from={origin}:csrnet", *fields], runs))
    return found


def table(results: Mapping[str, Sequence[dict]]) -> str:
    """Markdown: a row per variant, mean and standard deviation over seeds."""
    lines = ["| | " + " | ".join(COLUMNS.values()) + " |", "|" + "---|" * (len(COLUMNS) + 1)]
    for name, rows in results.items():
        cells = [mean_and_spread([r.get(key) for r in rows]) for key in COLUMNS]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def mean_and_spread(values: Sequence[float | None], *, digits: int = 2) -> str:
    """Mean and standard deviation of what is known, `-` of nothing."""
    known = [v for v in values if v is not None]
    if not known:
        return "-"
    spread = f" ± {np.std(known, ddof=1):.{digits}f}" if len(known) > 1 else ""
    return f"{np.mean(known):.{digits}f}{spread}"


def plot(results: Mapping[str, Sequence[dict]]) -> Figure:
    """Three panels, a bar per variant with each seed as a dot; distances on a log scale."""
    panels = {
        "projected_mae": "MAE per sample",
        "unprojected_squared_distance_background_min": "least squared distance, background",
        "box_purity_cell": "purity of cell boxes",
    }
    figure = Figure(figsize=(4.2 * len(panels), 0.32 * len(results) + 1.6), layout="constrained")
    for axes, (key, title) in zip(figure.subplots(1, len(panels)), panels.items(), strict=True):
        for i, rows in enumerate(results.values()):
            values = [r[key] for r in rows if r.get(key) is not None]
            if values:
                axes.barh(i, np.mean(values), color="#8ecae6")
                axes.plot(values, [i] * len(values), "o", color="#023047", markersize=3)
        axes.set_yticks(range(len(results)), results)
        axes.invert_yaxis()
        axes.set_title(title, fontsize=9)
        if "distance" in key:
            axes.set_xscale("log")
    return figure


if __name__ == "__main__":
    main()
