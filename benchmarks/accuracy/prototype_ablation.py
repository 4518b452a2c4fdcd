"""Ablations of CountXplain: one density network per seed, every variant on top of it.

    python -m benchmarks.accuracy.prototype_ablation --data vgg --preset quick --seeds 0 1 2
    python -m benchmarks.accuracy.prototype_ablation --data mbm --preset "" --only paper

Variants: without diversity loss, without prototype-to-feature loss, K = 2, 4, 6, 8, 10, tau 0 and
0.8, the paper's own formula, and the choices in which the short presets leave the released code,
one by one. A variant that changes nothing of the config (K = 6) is its default run, and a run that
ended before is not trained again. With `--evaluate-on validation` the test part stays closed
to the prototypes; choices are made so. Writes
`runs/ablation_DATA_PRESET.json`, `.md` (the table) and `.png` (errors, distances, purity).
"""

import argparse
import functools
import importlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from benchmarks.accuracy import seeds as accuracy

VARIANTS: Mapping[str, tuple[str, ...]] = {
    "default": (),
    "no diversity loss": ("prototypes.diversity_weight=0.0",),
    "no feature loss": ("prototypes.feature_weight=0.0",),
    **{f"K = {k}": (f"prototypes.n_prototypes={k}",) for k in (2, 4, 6, 8, 10)},
    **{f"tau = {tau:g}": (f"prototypes.tau={tau}",) for tau in (0.0, 0.8)},
    "paper": (
        "prototypes.density_inputs=all",
        "prototypes.reduction=mean",
        "prototypes.density_scale=1.0",
    ),
    "additive": ("prototypes.density_inputs=additive",),
    "signed weights": ("prototypes.density_inputs=cell_half",),
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
    "negative_share": "negative share",
}


LEAST_SHOWN = 1e-3
"""Of the distances in the plot, whose scale is logarithmic."""


def main() -> None:
    """Trains what is missing, prints the table and writes the files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", choices=("vgg", "mbm", "dcc", "idcia"), default="vgg")
    parser.add_argument("--preset", default="quick")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", choices=sorted(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--evaluate-on", choices=("test", "validation"), default="test")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    options = parser.parse_args()
    fields = [] if options.evaluate_on == "test" else [f"evaluate_on={options.evaluate_on}"]
    results = {
        name: variant(
            options.data, options.preset, [*fields, *VARIANTS[name]], options.seeds, options.runs
        )
        for name in options.only
    }
    words = ["ablation", options.data, options.preset or "full"]
    stem = options.runs / "_".join([*words, *(["validation"] if fields else [])])
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
    config = importlib.import_module(f"configs.countxplain_{data}").get_config(preset)
    fields = [field for field in fields if _changes(config, field)]
    found = []
    for seed in seeds:
        origin = _density_network(base, seed, runs)
        found.append(accuracy.run(top, seed, [f"init_from={origin}:csrnet", *fields], runs))
    return found


@functools.cache
def _density_network(config: str, seed: int, runs: Path) -> Path:
    """Trains it, if that was not done before; its folder, by which all seeds' runs are named."""
    accuracy.run(config, seed, [], runs)
    return runs / f"{accuracy.run_name(config, [])}_seed{{seed}}"


def _changes(config: ConfigDict, field: str) -> bool:
    """Whether `a.b=value` is not what the config has."""
    path, _, value = field.partition("=")
    *parents, name = path.split(".")
    return str(functools.reduce(getattr, parents, config)[name]) != value


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
        "unprojected_squared_distance_background_min": "background, least d² (at least 0.001)",
        "box_purity_cell": "purity of cell boxes",
    }
    figure = Figure(figsize=(4.2 * len(panels), 0.32 * len(results) + 1.6), layout="constrained")
    grid = figure.subplots(1, len(panels), sharey=True)
    for axes, (key, title) in zip(grid, panels.items(), strict=True):
        for i, rows in enumerate(results.values()):
            values = [r[key] for r in rows if r.get(key) is not None]
            if "distance" in key:
                values = [max(value, LEAST_SHOWN) for value in values]
            if values:
                axes.barh(i, np.mean(values), color="#8ecae6")
                axes.plot(values, [i] * len(values), "o", color="#023047", markersize=3)
        axes.set_title(title, fontsize=9)
        if "distance" in key:
            axes.set_xscale("log")
            axes.set_xlim(left=LEAST_SHOWN / 2)
    grid[0].set_yticks(range(len(results)), results)
    grid[0].invert_yaxis()
    return figure


if __name__ == "__main__":
    main()
