"""`cellcount annotate` and `agreement`: dots by hand in napari, and how well two people agree."""

import argparse
from pathlib import Path

from cellcount_jax.cli.common import AddCommand, help_epilog

OBSERVER_HELP = "name of a second observer, who does not see the first one's dots"


def add(command: AddCommand) -> None:
    """Adds the commands of this file."""
    end = help_epilog(
        "cellcount annotate my_images",
        ("FOLDER/dots/NAME.csv", "dots of an image: y, x (or z, y, x) in pixels"),
        ("FOLDER/not_cells/NAME.csv", "places marked as not a cell"),
        ("FOLDER/annotation/", "journals, who saved what and when, dots that were replaced"),
        ("FOLDER/observers/NAME/", "the same for a second observer"),
    )
    sub = command("annotate", _annotate, "Annotate a folder of images in napari.", end)
    sub.add_argument(
        "folder", type=Path, help="folder of the images; dots are written to its dots/"
    )
    sub.add_argument("--observer", metavar="NAME", help=OBSERVER_HELP)

    end = help_epilog(
        "cellcount agreement my_images --observer anna",
        ("FOLDER/annotation/agreement.html", "the comparison as a page"),
    )
    sub = command("agreement", _agreement, "Compare the dots of two observers.", end)
    sub.add_argument("folder", type=Path, help="folder that both have annotated")
    sub.add_argument(
        "--observer", metavar="NAME", help="name of the second observer, if there are several"
    )
    sub.add_argument("--radius", type=float, help="matching radius in pixels; default: inferred")


def _annotate(options: argparse.Namespace) -> int:
    try:
        from cellcount_jax.napari import launch
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in ("napari", "qtpy", "dask"):
            raise
        raise ValueError(
            "annotating needs napari, which is not installed; install it with: "
            "pip install 'cellcount_jax[napari]', or in a clone: pip install '.[napari]'"
        ) from error
    launch.annotate(options.folder, observer=options.observer)
    return 0


def _agreement(options: argparse.Namespace) -> int:
    from cellcount_jax.annotation import agreement

    path, found = agreement.write_page(
        options.folder, observer=options.observer, radius=options.radius
    )
    print(
        f"{found['n_images']} images, {found['first']} and {found['second']} dots: bias "
        f"{found['bias']:+.2f} cells per image, F1 {found['f1']:.3f} at {found['radius']:.1f} px"
    )
    print(f"page: {path}")
    return 0
