"""`cellcount evaluate` and `explain`: a counter's errors, and what its counts are made of."""

import argparse
from pathlib import Path

from cellcount_jax.cli.common import (
    MODEL_CHOICES,
    REGIONS_HELP,
    SOME_FAILED,
    AddCommand,
    add_reading,
    add_voxel_size,
    help_epilog,
    reading,
)
from cellcount_jax.runtime.setup import configure_process

EVALUATION_HELP = "folder of the report, default: evaluation; files of an earlier one are kept"
EXPLANATION_HELP = (
    "folder of the explanations, default: explanations; files of an earlier one are kept"
)


def add(command: AddCommand) -> None:
    """Adds the commands of this file."""
    end = help_epilog(
        "cellcount evaluate my_images --model my_images/cellcount -o evaluation",
        ("OUT/evaluation.html", "the report: errors, plots, the best and worst image"),
        ("OUT/evaluation.csv", "true and predicted count of each image"),
        ("OUT/evaluation.json", "the figures of the report"),
    )
    text = "Report a model's errors on a folder of images with dots."
    sub = command("evaluate", _evaluate, text, end)
    sub.add_argument("folder", type=Path, help="folder of images with dots, as for train")
    sub.add_argument("--model", type=Path, required=True, help=MODEL_CHOICES)
    sub.add_argument("-o", "--out", type=Path, default=Path("evaluation"), help=EVALUATION_HELP)
    sub.add_argument("--radius", type=float, help="matching radius in pixels; default: as trained")
    sub.add_argument("--diameter", type=float, help="cell diameter in pixels; default: estimated")
    add_reading(sub)
    add_voxel_size(sub)
    sub.add_argument("--regions", type=Path, help=REGIONS_HELP)

    end = help_epilog(
        "cellcount explain my_images --model runs/countxplain_vgg -o explanations",
        ("OUT/explanation.html", "the page: maps and prototypes of each image"),
        ("OUT/contributions.csv", "cells that each prototype contributes to each image"),
        ("OUT/boxes.csv", "the part of each image that is most similar to each prototype"),
        ("OUT/maps/NAME_similarity.tif", "a channel per prototype"),
        ("OUT/maps/NAME_contribution.tif", "the same, in cells"),
        ("OUT/gallery.png, OUT/space.png", "the prototypes, and their relative positions"),
    )
    text = "Explain counts: what each prototype contributes."
    sub = command("explain", _explain, text, end)
    sub.add_argument("paths", nargs="+", type=Path, help="image files or folders")
    sub.add_argument("--model", type=Path, required=True, help="run of a method with prototypes")
    sub.add_argument("-o", "--out", type=Path, default=Path("explanations"), help=EXPLANATION_HELP)


def _evaluate(options: argparse.Namespace) -> int:
    from cellcount_jax.evaluation.folder import evaluate_folder
    from cellcount_jax.inference.counter import Counter
    from cellcount_jax.reporting import evaluation_report

    configure_process(verbose=options.verbose)
    counter, chosen = Counter.load(options.model), reading(options)
    images = evaluate_folder(
        counter,
        options.folder,
        radius=options.radius,
        diameter=options.diameter,
        **chosen,
        voxel_size=options.voxel_size,
        regions=options.regions,
    )
    found = evaluation_report.write_evaluation(
        counter, images, options.folder, options.out, **chosen
    )
    print(evaluation_report.one_line(found))
    if found["remarks"]:
        print(f"{len(found['remarks'])} doubts about images or dots: see the column remarks")
    print(f"report: {options.out / 'evaluation.html'}")
    return SOME_FAILED if found["n_failed"] else 0


def _explain(options: argparse.Namespace) -> int:
    from cellcount_jax.inference.counter import Counter
    from cellcount_jax.io.images.find import list_images
    from cellcount_jax.reporting import explanation_report

    configure_process(verbose=options.verbose)
    counter = Counter.load(options.model)
    subjects = explanation_report.subjects_of_files(list_images(options.paths))
    failed = explanation_report.write_explanations(counter, subjects, options.out)
    print(f"{len(subjects) - failed} images explained: {options.out / 'explanation.html'}")
    return 0 if not failed else SOME_FAILED if failed < len(subjects) else 1
