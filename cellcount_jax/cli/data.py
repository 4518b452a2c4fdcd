"""`cellcount propose`, `data`, `dots` and `simulate`: images and dots, without a counter."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cellcount_jax.cli.common import (
    MODEL_CHOICES,
    SOME_FAILED,
    AddCommand,
    add_parser,
    add_reading,
    add_voxel_size,
    help_epilog,
    reading,
)
from cellcount_jax.runtime.error_text import one_line

if TYPE_CHECKING:
    from cellcount_jax.data.sample import Sample

METHOD_HELP = "threshold with splitting of touching cells, or blobs of one size; default: otsu"
PRESET_HELP = "2-D fluorescence images, or light-sheet volumes; default: vgg"
FORMAT_HELP = "format of the images; default: png, for volumes tiff"
ORDER_HELP = "which column comes first in tables without a header"


def add(command: AddCommand) -> None:
    """Adds the commands of this file."""
    _add_propose(command)
    _add_data(command)
    _add_dots(command)
    _add_simulate(command)


def _add_propose(command: AddCommand) -> None:
    end = help_epilog(
        "cellcount propose my_images --diameter 20",
        ("FOLDER/dots/NAME.csv", "dots of images without any; of all with --overwrite"),
    )
    text = "Propose dots for a folder of images, for you to correct."
    sub = command("propose", _propose, text, end)
    sub.add_argument(
        "folder", type=Path, help="folder of the images; dots are written to its dots/"
    )
    sub.add_argument("--method", choices=("otsu", "log"), default="otsu", help=METHOD_HELP)
    sub.add_argument("--model", help=f"propose this model's points, with scores: {MODEL_CHOICES}")
    sub.add_argument("--diameter", type=float, help="cell diameter in pixels; default: estimated")
    add_voxel_size(sub)
    add_reading(sub)
    sub.add_argument("--dark", action="store_true", help="cells are darker than the background")
    sub.add_argument("--overwrite", action="store_true", help="replace existing dots")


def _add_data(command: AddCommand) -> None:
    text = "List the benchmark datasets, or check one against its paper."
    sub = command("data", _data, text, help_epilog("cellcount data list"))
    actions = sub.add_subparsers(required=True, dest="action", metavar="list|check")
    text = "list datasets: which are present, where to get the rest"
    add_parser(actions, "list", text, help_epilog("cellcount data list"))
    text = "compare images, sizes and counts with published ones"
    check = add_parser(actions, "check", text, help_epilog("cellcount data check vgg_cells"))
    check.add_argument("name", help="name of a dataset, as listed")


def _add_dots(command: AddCommand) -> None:
    text = "Check dots against their images, or convert them."
    sub = command("dots", _dots, text, help_epilog("cellcount dots check my_images"))
    actions = sub.add_subparsers(required=True, dest="action", metavar="check|convert")
    text = "find dots outside the image, swapped, in um, or of another"
    check = add_parser(actions, "check", text, help_epilog("cellcount dots check my_images"))
    check.add_argument("path", type=Path, help="folder of images with dots, or a file of dots")
    check.add_argument("--image", type=Path, help="the image of a single file of dots")
    add_reading(check)
    check.add_argument("--order", choices=("xy", "yx"), help=ORDER_HELP)
    end = help_epilog("cellcount dots convert RoiSet.zip a.csv", ("TARGET", "the dots"))
    convert = add_parser(actions, "convert", "write dots in another format", end)
    convert.add_argument("source", type=Path, help="file of dots, of any format that is read")
    convert.add_argument("target", type=Path, help="file to write")
    convert.add_argument("--order", choices=("xy", "yx"), help=ORDER_HELP)
    convert.add_argument("--format", help="format of the target; default: by its suffix")
    add_voxel_size(
        convert, "micrometres per pixel, if the source is in micrometres; 2-D dots use Y and X"
    )


def _add_simulate(command: AddCommand) -> None:
    end = help_epilog(
        "cellcount simulate simulated -n 20 --count 50",
        ("FOLDER/images/NAME.png", "images; .ome.tif or .ome.zarr with --format"),
        ("FOLDER/dots/NAME.csv", "the dots of each"),
        ("FOLDER/simulation.json", "the settings"),
    )
    sub = command("simulate", _simulate, "Write simulated images with exact dots.", end)
    sub.add_argument("folder", type=Path, help="output folder; created if missing")
    sub.add_argument("-n", "--number", type=int, default=10, help="number of images; default: 10")
    sub.add_argument("--preset", choices=("vgg", "light_sheet"), default="vgg", help=PRESET_HELP)
    sub.add_argument("--shape", type=int, nargs="+", help="height width, or depth height width")
    sub.add_argument("--count", type=int, help="cells per image; default: random, by the preset")
    sub.add_argument("--format", choices=("png", "tiff", "zarr"), help=FORMAT_HELP)
    sub.add_argument("--seed", type=int, default=0, help="random seed; default: 0")


def _propose(options: argparse.Namespace) -> int:
    from cellcount_jax.annotation import propose_dots
    from cellcount_jax.runtime.path_text import path_text

    find = None
    if options.model is not None:
        from cellcount_jax.annotation import propose

        find = propose.model_finder(options.model)
    written, failed = propose_dots.propose_folder(
        options.folder,
        method=options.method,
        diameter=options.diameter,
        dark=options.dark,
        overwrite=options.overwrite,
        voxel_size=options.voxel_size,
        find=find,
        **reading(options),
    )
    for path, number in written.items():
        print(f"{path_text(path)}: {number} dots")
    print(f"correct them: cellcount annotate {options.folder}")
    print(f"(napari opens the CSV files, too), then: cellcount train {options.folder}")
    return SOME_FAILED if failed else 0


def _data(options: argparse.Namespace) -> int:
    from cellcount_jax.datasets import verify

    listed = options.action == "list"
    lines = verify.describe_all() if listed else verify.check(options.name)
    print("\n".join(lines))
    return 0


def _dots(options: argparse.Namespace) -> int:
    from cellcount_jax.datasets.usable_images import usable
    from cellcount_jax.io import pairing
    from cellcount_jax.io.annotations import dots

    if options.action == "convert":
        found = dots.read_dots(options.source, order=options.order, spacing=options.voxel_size)
        dots.write_dots(options.target, found, format=options.format)
        return 0
    if options.path.is_dir():
        pairs = pairing.find_pairs(options.path)[1]
    elif options.image is None:
        raise ValueError(f"{options.path}: name its image with --image, or give a folder")
    else:
        pairs = {options.image: options.path}
    problems, samples = 0, []
    for image, path in pairs.items():
        try:
            findings, sample = _checked(image, path, options)
        except (ValueError, OSError) as error:  # one bad file does not stop the others
            findings, sample = [one_line(error)], None
        for finding in findings:
            print(finding)
        problems += len(findings)
        samples += [sample] if sample else []
    for line, _ in usable.misplaced(samples).values():
        problems += 1
        print(line)
    print(f"{len(pairs)} files of dots checked, {problems} remarks")
    return 1 if problems else 0


def _checked(
    image: Path, path: Path, options: argparse.Namespace
) -> tuple[list[Any], "Sample | None"]:
    """Problems of a file of dots; if none and the image is 2-D, also the image with its dots."""
    from cellcount_jax.data.sample import Sample
    from cellcount_jax.io.annotations import validate
    from cellcount_jax.io.images.image import read_image
    from cellcount_jax.runtime.path_text import path_text

    opened = read_image(image, **reading(options))
    findings, found = validate.read_checked(
        path, opened.space_shape, order=options.order, pixel_size=opened.spacing
    )
    if findings or found is None or opened.ndim != 2:
        return findings, None
    return [], Sample(path_text(image), opened.pixels, found.points)


def _simulate(options: argparse.Namespace) -> int:
    from cellcount_jax.simulation import simulate

    simulate.write_simulated(
        options.folder,
        options.number,
        seed=options.seed,
        shape=options.shape,
        preset=options.preset,
        count=options.count,
        format=options.format,
    )
    print(f"{options.number} images with their dots: {options.folder}")
    return 0
