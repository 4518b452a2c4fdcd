"""`cellcount train`: trains a counter on a folder of images with dots."""

import argparse
from pathlib import Path

from cellcount_jax.cli.common import (
    MODEL_CHOICES,
    SOME_FAILED,
    AddCommand,
    add_reading,
    add_voxel_size,
    help_epilog,
    reading,
)
from cellcount_jax.runtime.setup import configure_process

START_HELP = f"start from the weights of a model with the same network: {MODEL_CHOICES}"
UNLABELLED_HELP = (
    "learn from images without dots, too (focal consistency): those of the folder and of these "
    "files and folders"
)
EXPLAIN_HELP = (
    "train a counter of prototypes (CountXplain), whose counts `cellcount explain` explains; "
    "it gives no points"
)


def add(command: AddCommand) -> None:
    """Adds the commands of this file."""
    end = help_epilog(
        "cellcount train my_images",
        ("OUT/report.html", "the report: errors, plots, the best and worst image"),
        ("OUT/predictions.csv", "true and predicted count of each image of the report"),
        ("OUT/results.json", "the figures of the report"),
        ("OUT/checkpoints/", "the model, and the state from which a stopped training resumes"),
        ("OUT/metrics.jsonl", "losses and errors during the training"),
        ("OUT/config.json, OUT/data.json", "the settings, and what it was trained on"),
        ("OUT/folds/", "with --folds: the same for each further counter"),
    )
    sub = command("train", _train, "Train a counter on a folder of images with dots.", end)
    sub.add_argument("folder", type=Path, help="images in images/, dots in dots/ (or side by side)")
    sub.add_argument("-o", "--out", type=Path, help="folder of the run; default FOLDER/cellcount")
    add_reading(sub)
    add_voxel_size(sub)
    sub.add_argument("--steps", type=int, help="training steps; default 1500, for volumes 500")
    sub.add_argument(
        "--folds",
        type=int,
        default=0,
        help="also estimate the error with this many counters, each "
        "trained without a part of the images",
    )
    sub.add_argument("--start-from", metavar="MODEL", help=START_HELP)
    sub.add_argument("--unlabelled", nargs="*", type=Path, metavar="IMAGES", help=UNLABELLED_HELP)
    sub.add_argument("--explain", action="store_true", help=EXPLAIN_HELP)
    sub.add_argument(
        "--seed", type=int, default=0, help="random seed of split and training; default: 0"
    )


def _train(options: argparse.Namespace) -> int:
    from etils import epath

    from cellcount_jax.reporting.verdict import verdict
    from cellcount_jax.training.lab import train_folder

    configure_process(verbose=options.verbose)
    out = epath.Path(options.out or options.folder / "cellcount")
    results = train_folder.train_folder(
        options.folder,
        out,
        **reading(options),
        voxel_size=options.voxel_size,
        steps=options.steps,
        seed=options.seed,
        start_from=options.start_from,
        folds=options.folds,
        unlabelled=options.unlabelled,
        explain=options.explain,
    )
    print(f"model: {out}   report: {out / 'report.html'}")
    for line in verdict(results):
        print(line)
    print(f"to count more images: cellcount predict IMAGES --model {out} -o counts")
    if options.explain:
        print(f"explain counts: cellcount explain IMAGES --model {out} -o explanations")
    return SOME_FAILED if results.get("left_out") else 0
