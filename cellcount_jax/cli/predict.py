"""`cellcount predict` and `merge`: images in, one table out."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cellcount_jax.cli.common import (
    MODEL_CHOICES,
    REGIONS_HELP,
    SOME_FAILED,
    AddCommand,
    add_voxel_size,
    help_epilog,
)
from cellcount_jax.prediction.options import POINTS_STYLES, Options
from cellcount_jax.runtime.setup import configure_process

MODEL_DEFAULT = "default: a bundled one that fits the images, by a look at some of them"
OUT_HELP = "folder of the results, default: counts; rerun to resume"
POINTS_HELP = "format of the points, by program; default: plain CSV"
SCENE_HELP = "index of the image in files that hold several, from 0; default: all, a row each"
TIME_HELP = "index of the time point in time series, from 0; default: all, a row each"
SLICE_HELP = "count each plane of a stack as an image of its own, a row each"
NORMALISE_HELP = "intensity scaling: dtype, percentile or minmax; default: as trained"
THRESHOLD_HELP = "threshold of the points, in place of the model's; lower finds more cells"
COLUMNS_HELP = "columns of counts.csv: those that some row fills (default), or all"
SHARD_HELP = "count every N-th file; then: cellcount merge"


def add(command: AddCommand) -> None:
    """Adds the commands of this file."""
    end = help_epilog(
        "cellcount predict my_images --overlays -o counts",
        ("OUT/counts.csv", "a row per image; counts.before-1.csv: an earlier table"),
        ("OUT/counts.shard-I-of-N.csv", "the rows of one shard, with --shard I/N"),
        ("OUT/points/NAME.csv", "where the cells are; other suffixes with --points-style"),
        ("OUT/overlays/NAME.png", "with --overlays: the image with its points"),
        ("OUT/density/NAME.ome.tif", "with --density: cells per pixel; .ome.zarr if it is large"),
        ("OUT/counts.json", "the settings; this and hidden files are needed to resume"),
    )
    text = "Count images into OUT/counts.csv, one row per image."
    sub = command("predict", _predict, text, end)
    sub.add_argument("paths", nargs="+", type=Path, help="files, folders or patterns like 'a*.tif'")
    sub.add_argument("--model", type=Path, help=f"{MODEL_CHOICES}; {MODEL_DEFAULT}")
    sub.add_argument("-o", "--out", type=Path, default=Path("counts"), help=OUT_HELP)
    sub.add_argument("--pattern", help="pattern of files in folders, such as '*.tif'; default: all")
    sub.add_argument("--points-style", choices=POINTS_STYLES, default="plain", help=POINTS_HELP)
    sub.add_argument("--density", action="store_true", help="also write density maps")
    sub.add_argument("--overlays", action="store_true", help="also write images with the points")
    sub.add_argument("--axes", help="axes of the files, such as ZCYX, in place of their metadata")
    sub.add_argument("--channels", nargs="+", help="channels to use, by index or name")
    add_voxel_size(sub)
    sub.add_argument("--diameter", type=float, help="cell diameter in pixels; default: estimated")
    sub.add_argument("--threshold", type=float, help=THRESHOLD_HELP)
    sub.add_argument("--columns", choices=("used", "all"), default="used", help=COLUMNS_HELP)
    sub.add_argument("--scene", type=int, help=SCENE_HELP)
    sub.add_argument("--time", type=int, help=TIME_HELP)
    sub.add_argument("--per-slice", action="store_true", help=SLICE_HELP)
    sub.add_argument("--normalise", metavar="HOW", help=NORMALISE_HELP)
    sub.add_argument("--regions", type=Path, help=REGIONS_HELP)
    sub.add_argument("--shard", type=_shard, metavar="I/N", help=SHARD_HELP)

    end = help_epilog(
        "cellcount merge counts",
        ("OUT/counts.csv", "the rows of all shards, in the order of the images"),
        ("OUT/counts.json", "their settings"),
    )
    text = "Merge the tables made by predict --shard into counts.csv."
    sub = command("merge", _merge, text, end)
    sub.add_argument("out", type=Path, help="folder with the tables of all shards")


def _shard(text: str) -> tuple[int, int]:
    i, _, n = text.partition("/")
    if not (i.isdigit() and n.isdigit() and 1 <= int(i) <= int(n)):
        raise argparse.ArgumentTypeError(f"{text!r} is not I/N with I from 1 to N, such as 1/4")
    return int(i), int(n)


def _predict(options: argparse.Namespace) -> int:
    from cellcount_jax.inference.counter import Counter
    from cellcount_jax.prediction.counts_csv import table_name
    from cellcount_jax.prediction.find_images import find_images
    from cellcount_jax.prediction.predict_files import predict_files

    configure_process(verbose=options.verbose)
    chosen, model = _chosen(options), options.model
    counter = None if model is None else Counter.load(model)
    paths = find_images(options.paths, options.out, pattern=options.pattern)
    table = options.out / table_name(options.shard)
    if counter is None:
        model, why = _bundled_model(paths, table, Options(**chosen))
        print(f"model: {model} (bundled), {why}; choose another with --model")
        counter = Counter.load(model)
    draw = None
    if options.overlays:  # imports Matplotlib, which is slow
        from cellcount_jax.reporting import overlays

        draw = overlays.overlay_writer(options.out / "overlays")
    failed = predict_files(counter, paths, options.out, model=str(model), on_counted=draw, **chosen)
    i, n = options.shard or (1, 1)
    return _print_summary(len(paths[i - 1 :: n]), failed, table)


def _bundled_model(paths: Sequence[Path], table: Path, options: Options) -> tuple[str, str]:
    """The bundled model that counted some of the images already, else one that fits; and why.

    So images that are added to a folder do not change the model of those in the table.
    """
    from cellcount_jax.inference.bundled import MODELS
    from cellcount_jax.prediction.choose_model import choose_model
    from cellcount_jax.prediction.counts_csv import model_of

    if (model := model_of(table, paths)) in MODELS:
        return str(model), f"as in {table}"
    model, why = choose_model(paths, options)
    return model, f"for {why}"


def _chosen(options: argparse.Namespace) -> dict[str, Any]:
    """Fields of `prediction.options.Options`."""
    names = (
        *("points_style", "density", "axes", "channels", "voxel_size", "diameter", "scene"),
        *("time", "per_slice", "normalise", "threshold", "regions", "shard"),
    )
    every_column = options.columns == "all"
    return {name: getattr(options, name) for name in names} | {"every_column": every_column}


def _merge(options: argparse.Namespace) -> int:
    from cellcount_jax.prediction import counts_csv as table

    target, images, failed = table.merge(options.out)
    return _print_summary(images, failed, target)


def _print_summary(images: int, failed: int, table: Path) -> int:
    print(f"{images - failed} of {images} images counted: {table}")
    if failed:
        print(f"{failed} failed; see the status column")
    return 0 if not failed else SOME_FAILED if failed < images else 1
