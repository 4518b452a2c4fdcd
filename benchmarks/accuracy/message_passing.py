"""DCL with and without global message passing: paired errors over seeds, and the coarse maps.

    python -m benchmarks.accuracy.message_passing --config configs/dcl_vgg.py:quick --seeds 0 1 2

The table of the paper's ablation (Table 3): the two differ in `model.message_passing` alone and
neither has a localizer, which takes no part in the count (`--localizer` keeps it). Finished runs
are not trained again. Writes `runs/ablation_message_passing_NAME.json`, `.md` (a row per variant,
and the paired difference of the errors) and `.png` (the maps of the first test images with
their counts, as in the paper's Figures 2 and 3).
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from benchmarks.accuracy import ablation, seeds
from benchmarks.output import markdown, mean_and_sd
from benchmarks.read_config import read_config
from cellcount_jax.data.sample import Sample
from cellcount_jax.inference.counter import Counter
from cellcount_jax.reporting import overlays
from cellcount_jax.training import run as experiment

VARIANTS: Mapping[str, tuple[str, ...]] = {
    "with message passing": (),
    "without": ("model.message_passing=False",),
}
"""Title in the table -> changed fields."""

WITHOUT_LOCALIZER = "localizer.enabled=False"

COLUMNS = {
    "mae": "MAE",
    "rmse": "RMSE",
    "bias": "bias",
    "patch_mae": "MAE per patch",
    "patch_rmse": "RMSE per patch",
    "baseline_mean_mae": "training mean",
    "baseline_histogram_mae": "histogram",
    "seconds_train": "seconds",
}

N_SHOWN = 4
"""Test images whose maps are drawn."""


def main() -> None:
    """Trains missing runs, prints the table and writes the files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", default="configs/dcl_vgg.py:quick", help="FILE.py:preset")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--set", nargs="*", default=[], help="config fields, for both")
    parser.add_argument("--localizer", action="store_true", help="train the localizer, too")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    options = parser.parse_args()
    common = [*options.set, *([] if options.localizer else [WITHOUT_LOCALIZER])]
    fields = {title: [*common, *changed] for title, changed in VARIANTS.items()}
    results = {
        title: [seeds.run(options.config, seed, given, options.runs) for seed in options.seeds]
        for title, given in fields.items()
    }
    text = ablation.table(results, COLUMNS) + "\n\n" + paired(*results.values())
    folders = {
        title: options.runs / f"{seeds.run_name(options.config, given)}_seed{options.seeds[0]}"
        for title, given in fields.items()
    }
    config = read_config(options.config, [*common, f"seed={options.seeds[0]}"])
    samples = experiment.load_source(config).splits["test"][:N_SHOWN]
    stem = options.runs / f"ablation_message_passing_{seeds.run_name(options.config, options.set)}"
    ablation.write(stem, results, text, coarse_maps(folders, samples))


def paired(first: Sequence[dict], second: Sequence[dict]) -> str:
    """Markdown: mean and standard deviation over seeds of the difference of their errors."""
    rows = []
    for key in ("mae", "rmse", "patch_mae"):
        pairs = [(a.get(key), b.get(key)) for a, b in zip(first, second, strict=True)]
        if all(a is not None and b is not None for a, b in pairs):
            rows.append([COLUMNS[key], mean_and_sd([a - b for a, b in pairs])])
    return markdown(["with - without, paired by seed", ""], rows)


def coarse_maps(folders: Mapping[str, Path], samples: Sequence[Sample]) -> Figure:
    """A row per image: the image with its number of cells, then each counter's map with its sum."""
    columns = len(folders) + 1
    figure = Figure(figsize=(2.6 * columns, 2.7 * len(samples)), layout="constrained")
    grid = figure.subplots(len(samples), columns, squeeze=False)
    for row, sample in zip(grid, samples, strict=True):
        row[0].imshow(overlays.displayable(sample.image), interpolation="nearest")
        row[0].set_title(f"true {sample.count}", fontsize=9)
    for column, (title, folder) in enumerate(folders.items(), start=1):
        counter = Counter.load(folder, stage="counter").without_resampling()
        for axes, count in zip(
            grid[:, column], counter.count_all(s.image for s in samples), strict=True
        ):
            density = np.zeros((1, 1)) if count.density is None else count.density
            axes.imshow(density, cmap="viridis", interpolation="nearest", vmin=0)
            axes.set_title(f"{title}: {count.count:.1f}", fontsize=9)
    for axes in grid.flat:
        axes.set(xticks=[], yticks=[])
    return figure


if __name__ == "__main__":
    main()
