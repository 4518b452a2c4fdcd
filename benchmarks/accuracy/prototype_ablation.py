"""Ablations of CountXplain: one density network per seed, all variants trained on top of it.

    python -m benchmarks.accuracy.prototype_ablation --data vgg --preset quick --seeds 0 1 2
    python -m benchmarks.accuracy.prototype_ablation --data mbm --preset "" --only paper

Variants: without diversity loss, without prototype-to-feature loss, K = 2, 4, 6, 8, 10, tau 0 and
0.8, the paper's own formula, and the choices in which the short presets depart from the released
code, one by one; "kept apart" is `cellcount_jax.short_trainings.kept_apart`, the default on MBM. A
variant that changes nothing of the config (K = 6) is its default run; finished runs are not trained
again. With `--evaluate-on validation` the prototypes are not evaluated on the test split; choices
are made that way. Writes `runs/ablation_DATA_PRESET.json`, `.md` (the table)
and `.png` (errors, distances, purity).
"""

import argparse
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure
from ml_collections import ConfigDict

from benchmarks.accuracy import ablation, seeds
from benchmarks.output import record
from benchmarks.read_config import read_config

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
    "kept apart": (
        "prototypes.start=clusters",
        "prototypes.places=separate",
        "prototypes.feature_weight=3.0",
        "prototypes.background_weight=0.4",
        "prototypes.diversity=distance",
        "prototypes.margin=1.5",
        "prototypes.contrast=True",
        "prototypes.least_share=0.08",
        "prototypes.distinct=image",
        "prototypes.project_by_density=True",
    ),
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

MIN_DISTANCE = 1e-3
"""Smallest squared distance in the plot, whose scale is logarithmic."""

PANELS = {
    "projected_mae": "MAE per sample",
    "unprojected_squared_distance_background_min": "background, least d² (at least 0.001)",
    "box_purity_cell": "purity of cell boxes",
}


def main() -> None:
    """Trains missing runs, prints the table and writes the files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", choices=("vgg", "mbm", "dcc", "idcia"), default="vgg")
    parser.add_argument("--preset", default="quick")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", choices=sorted(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--evaluate-on", choices=("test", "validation"), default="test")
    parser.add_argument("--set", nargs="*", default=[], help="more fields of every variant")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--record", action="store_true", help="also add to benchmarks/results")
    options = parser.parse_args()
    fields = [] if options.evaluate_on == "test" else [f"evaluate_on={options.evaluate_on}"]
    results = {
        name: run_variant(
            options.data,
            options.preset,
            [*fields, *options.set, *VARIANTS[name]],
            options.seeds,
            options.runs,
        )
        for name in options.only
    }
    if options.record:
        config = " ".join([_config("countxplain", options.data, options.preset), *options.set])
        record_all("countxplain", results, config)
    words = ["ablation", options.data, options.preset or "full"]
    stem = options.runs / "_".join([*words, *(["validation"] if fields else [])])
    ablation.write(stem, results, ablation.table(results, COLUMNS), plot(results))


def run_variant(
    data: str, preset: str, fields: Sequence[str], numbers: Sequence[int], runs: Path
) -> list[dict]:
    """Results of one variant, one per seed number."""
    config, changed = config_and_fields(data, preset, fields, runs)
    for seed in numbers:
        _train_density_network(_config("csrnet", data, preset), seed, runs)
    return [seeds.run(config, seed, changed, runs) for seed in numbers]


def config_and_fields(
    data: str, preset: str, fields: Sequence[str], runs: Path
) -> tuple[str, list[str]]:
    """The config of a variant's runs, and those of its fields that change it."""
    base, top = _config("csrnet", data, preset), _config("countxplain", data, preset)
    # `seeds.run` leaves the place of the seed to the program.
    density_network = runs / f"{seeds.run_name(base, [])}_seed{{seed}}"
    start = f"init_from={density_network}:csrnet"
    return top, [start, *changed_fields(read_config(top), fields)]


def record_all(name: str, results: ablation.Results, config: str) -> None:
    """A line in `benchmarks/results/NAME.jsonl` for each run of each variant."""
    for variant, runs in results.items():
        for found in runs:
            kept = {"seed": found["seed"], "split_hash": found["split_hash"]}
            record(name, {"variant": variant, **found}, config=config, **kept)


def _config(method: str, data: str, preset: str) -> str:
    return f"configs/{method}_{data}.py:{preset}".rstrip(":")


@functools.cache
def _train_density_network(config: str, seed: int, runs: Path) -> None:
    """Trains it unless that was done before."""
    seeds.run(config, seed, [], runs)


def changed_fields(config: ConfigDict, fields: Sequence[str]) -> list[str]:
    """The fields, each `a.b=value`, that change a value of the config."""
    changed = []
    for field in fields:
        path, _, value = field.partition("=")
        *parents, name = path.split(".")
        if str(functools.reduce(getattr, parents, config)[name]) != value:
            changed.append(field)
    return changed


def plot(results: ablation.Results) -> Figure:
    """A panel per figure; distances on a log scale."""
    figure = Figure(figsize=(4.2 * len(PANELS), 0.32 * len(results) + 1.6), layout="constrained")
    panels = figure.subplots(1, len(PANELS), sharey=True)
    for axes, (key, title) in zip(panels, PANELS.items(), strict=True):
        is_distance = "distance" in key
        ablation.bars(axes, results, key, title=title, least=MIN_DISTANCE if is_distance else None)
        if is_distance:
            axes.set_xscale("log")
            axes.set_xlim(left=MIN_DISTANCE / 2)
    panels[0].invert_yaxis()
    return figure


if __name__ == "__main__":
    main()
