"""Figures and Table 2 of the CountXplain paper, from runs of `prototype_ablation`.

    python -m benchmarks.accuracy.prototype_figures --data vgg --preset quick --seeds 0 --record
    python -m benchmarks.accuracy.prototype_figures --recorded

Trains the variants that are missing and writes `prototypes-NAME.png` to `--out`:

- `k`: error and purity against the number of prototypes;
- `losses`: training features and prototypes along two principal directions, without the feature
  loss, without the diversity loss, with both;
- `diversity`: similarity maps of one test image with and without the diversity loss.

Prints the distances between prototypes with and without it (Table 2). `--recorded` trains nothing
and draws `k` and the table again from what `--record` has added to `benchmarks/results`.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from benchmarks import output
from benchmarks.accuracy import ablation, seeds
from benchmarks.accuracy.prototype_ablation import (
    VARIANTS,
    config_and_fields,
    record_all,
    run_variant,
)
from benchmarks.output import RESULTS, markdown, mean_and_sd
from benchmarks.read_config import read_config
from cellcount_jax.data.sample import Sample
from cellcount_jax.explanation import prototypes as explanations
from cellcount_jax.explanation.faithfulness import group_distances
from cellcount_jax.inference.counter import Counter
from cellcount_jax.methods.base import Prototypes
from cellcount_jax.reporting import overlays, prototype_figures
from cellcount_jax.training import run as experiment

NAME = "prototype_figures"

SIZES = {name: int(name.removeprefix("K = ")) for name in VARIANTS if name.startswith("K = ")}

LOSSES = {
    "no feature loss": "without the feature loss",
    "no diversity loss": "without the diversity loss",
    "default": "both losses",
}
"""Variants -> titles of the panels."""

DIVERSITY = {"no diversity loss": "off", "default": "on"}

PAPER = {"off": ("0.69", "1.09", "0.01", "0.01"), "on": ("1.66", "2.01", "1.85", "1.85")}
"""Table 2: least and mean distance of cells, then of background; squared or not is not said."""

PANELS: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "MAE, cells per image": {
        "projected_mae": ("after the last projection", "#118ab2"),
        "unprojected_mae": ("before it", "#8ecae6"),
    },
    "purity of boxes": {
        "box_purity_cell": ("cell prototypes", prototype_figures.CELL_COLOUR),
        "box_purity_background": ("background prototypes", prototype_figures.BACKGROUND_COLOUR),
    },
}
"""Title -> key in the results -> label and colour of its curve."""


def main() -> None:
    """Trains what is missing, draws, prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", choices=("vgg", "mbm", "dcc", "idcia"), default="vgg")
    parser.add_argument("--preset", default="quick")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--set", nargs="*", default=[], help="fields of every variant")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--out", type=Path, default=Path("runs/prototype_figures"))
    parser.add_argument("--record", action="store_true", help="also add to benchmarks/results")
    parser.add_argument("--recorded", action="store_true", help="train nothing, see above")
    options = parser.parse_args()
    config = f"configs/countxplain_{options.data}.py:{options.preset}".rstrip(":")
    config = " ".join([config, *options.set])
    fields = {name: [*options.set, *VARIANTS[name]] for name in dict.fromkeys([*SIZES, *LOSSES])}
    if options.recorded:
        results = recorded(RESULTS / f"{NAME}.jsonl", config)
    else:
        results = {
            name: run_variant(options.data, options.preset, changed, options.seeds, options.runs)
            for name, changed in fields.items()
        }
    if options.record:
        record_all(NAME, results, config)
    figures = {"k": sweep(results)}
    if not options.recorded:
        found = {
            name: config_and_fields(options.data, options.preset, fields[name], options.runs)
            for name in LOSSES
        }
        figures |= drawn_from_runs(found, options.seeds[0], options.runs)
    options.out.mkdir(parents=True, exist_ok=True)
    for name, figure in figures.items():
        figure.savefig(options.out / f"prototypes-{name}.png", dpi=100)
    print(distances(results))


def recorded(path: Path, config: str) -> ablation.Results:
    """Results of each variant of a config from recorded lines; of equal runs the last."""
    found: dict[str, dict[int, dict]] = {}
    for run in output.recorded(path):
        if run["config"] == config:
            figures = run["figures"]
            found.setdefault(figures["variant"], {})[figures["seed"]] = figures
    if not found:
        raise ValueError(f"{path} holds no runs of {config}; add some with --record")
    return {variant: list(runs.values()) for variant, runs in found.items()}


def sweep(results: ablation.Results) -> Figure:
    """Error and purity against the number of prototypes: means as curves, a dot per run."""
    figure = Figure(figsize=(8.2, 3.0), layout="constrained")
    sizes = {name: k for name, k in SIZES.items() if name in results}
    panels = figure.subplots(1, len(PANELS))
    for axes, (title, curves) in zip(panels, PANELS.items(), strict=True):
        for key, (label, colour) in curves.items():
            runs = {k: [r[key] for r in results[name]] for name, k in sizes.items()}
            axes.plot(list(runs), [np.mean(v) for v in runs.values()], color=colour, label=label)
            for k, values in runs.items():
                axes.plot([k] * len(values), values, "o", color=colour, markersize=4)
        axes.set(xlabel="number of prototypes K", title=title, xticks=list(sizes.values()))
        axes.title.set_fontsize(10)
    density_network = [r["extractor_mae"] for name in sizes for r in results[name]]
    panels[0].axhline(np.mean(density_network), color="0.6", linestyle="--", label="its CSRNet")
    panels[0].set_ylim(0, 1.08 * panels[0].dataLim.y1)
    panels[1].set_ylim(0, 1.05)
    for axes in panels:
        axes.legend(frameon=False, fontsize=8)
    return figure


def distances(results: ablation.Results) -> str:
    """Markdown: least and mean squared distance in both groups, with and without diversity."""
    rows = []
    for moment, prefix in (("before the last projection", "unprojected_"), ("after it", "")):
        for variant, said in DIVERSITY.items():
            keys = [
                f"{prefix}squared_distance_{group}_{word}"
                for group in ("cell", "background")
                for word in ("min", "mean")
            ]
            means = [mean_and_sd([r.get(key) for r in results[variant]]) for key in keys]
            rows.append([f"{said}, {moment}", *means])
    rows += [[f"{said}, paper", *values] for said, values in PAPER.items()]
    head = ["diversity loss", "cells: least", "mean", "background: least", "mean"]
    return markdown(head, rows)


def drawn_from_runs(
    variants: Mapping[str, tuple[str, list[str]]], seed: int, runs: Path
) -> dict[str, Figure]:
    """The figures that need the trained networks of one seed.

    Args:
      variants: Config and changed fields of each of `LOSSES`.
      seed: Seed of the runs.
      runs: Folder that holds them.
    """
    counters = {
        name: Counter.load(runs / f"{seeds.run_name(config, fields)}_seed{seed}")
        for name, (config, fields) in variants.items()
    }
    config, _ = variants["default"]
    source = experiment.load_source(read_config(config, [f"seed={seed}"]))
    spaces = {LOSSES[name]: explanations.prototypes_of(c) for name, c in counters.items()}
    maps = {f"diversity loss {said}": counters[name] for name, said in DIVERSITY.items()}
    return {
        "losses": principal_planes(spaces),
        "diversity": similarity_maps(maps, source.splits["test"][0]),
    }


def principal_planes(spaces: Mapping[str, Prototypes]) -> Figure:
    """Features and prototypes along the two directions in which each run's features vary most.

    A panel per run, all with the same axes (the second stretched), turned so that cells are at the
    upper right: an arrow leads from where a prototype was before the last projection to the
    feature that it became.
    """
    figure = Figure(figsize=(3.3 * len(spaces) + 0.4, 2.8), layout="constrained")
    panels = figure.subplots(1, len(spaces), squeeze=False)[0]
    drawn: Any = None
    corners: list[np.ndarray] = []
    for axes, (title, found) in zip(panels, spaces.items(), strict=True):
        density = found.provenance["sample_density"]
        before = np.asarray(found.before_projection.trained["prototypes"])
        sample, old, new = _in_plane(found, before)
        drawn = axes.scatter(*sample.T, c=density, s=5, cmap="viridis", linewidth=0)
        for k in range(len(new)):
            colour = prototype_figures.group_colour(k, found)
            axes.annotate("", new[k], old[k], arrowprops={"arrowstyle": "->", "color": "0.4"})
            axes.plot(*old[k], "o", markerfacecolor="none", markeredgecolor=colour, markersize=8)
            axes.plot(*new[k], "o", color=colour, markeredgecolor="black", markersize=7)
        least = group_distances(before, found.n_cell)
        shown = [least[f"squared_distance_{group}_min"] for group in ("cell", "background")]
        text = ", ".join("-" if value is None else f"{value:.2f}" for value in shown)
        axes.set_title(f"{title}\nleast d²: {text}", fontsize=9)
        corners.append(np.concatenate([sample, old, new]))
    low, high = (of(np.concatenate(corners), axis=0) for of in (np.min, np.max))
    margin = 0.07 * (high - low)
    for axes in panels:
        axes.set(xlim=(low[0] - margin[0], high[0] + margin[0]))
        axes.set(ylim=(low[1] - margin[1], high[1] + margin[1]))
        axes.set_xlabel("component 1", fontsize=8)
        axes.tick_params(labelsize=7)
    panels[0].set_ylabel("component 2", fontsize=8)
    bar = figure.colorbar(drawn, ax=list(panels), aspect=20)
    bar.set_label("cells at the position", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    return figure


def _in_plane(found: Prototypes, before: np.ndarray) -> list[np.ndarray]:
    """Features, prototypes before the last projection and after it, in the plane; each [n, 2]."""
    features, density = found.provenance["sample"], found.provenance["sample_density"]
    sets = [
        prototype_figures.principal(features, points)[:, :2]
        for points in (features, before, found.vectors)
    ]
    # The sign of a principal direction means nothing.
    signs = np.where(sets[0].T @ (density - density.mean()) < 0, -1.0, 1.0)
    return [points * signs for points in sets]


def similarity_maps(counters: Mapping[str, Counter], sample: Sample) -> Figure:
    """A row per counter: the similarity of each of its prototypes on one image, on one scale."""
    maps = {
        title: explanations.explain(counter.without_resampling(), sample.image)
        for title, counter in counters.items()
    }
    names = [explanations.prototypes_of(counter).names for counter in counters.values()]
    columns = 1 + max(map(len, names))
    figure = Figure(figsize=(1.5 * columns, 1.55 * len(maps) + 0.2), layout="constrained")
    grid = figure.subplots(len(maps), columns, squeeze=False)
    highest = max(float(found.similarity.max()) for found in maps.values())
    drawn: Any = None
    for row, (title, found), own in zip(grid, maps.items(), names, strict=True):
        row[0].imshow(overlays.displayable(sample.image), interpolation="nearest")
        row[0].set_title(f"{sample.count} cells", fontsize=8)
        row[0].set_ylabel(f"{title}\n{found.count:.1f} counted", fontsize=8)
        for k, name in enumerate(own):
            drawn = row[k + 1].imshow(
                found.similarity[..., k],
                cmap="magma",
                vmin=0,
                vmax=highest,
                interpolation="nearest",
            )
            row[k + 1].set_title(name, fontsize=8)
    for axes in grid.flat:
        axes.set(xticks=[], yticks=[])
    figure.colorbar(drawn, ax=grid.ravel().tolist(), shrink=0.7, aspect=25, label="similarity")
    return figure


if __name__ == "__main__":
    main()
