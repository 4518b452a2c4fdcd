"""Types and options that several commands share."""

import argparse
from collections.abc import Callable
from typing import Any

from cellcount_jax.inference.bundled import MODELS

Run = Callable[[argparse.Namespace], int]
"""Runs a command and returns its exit status."""

AddCommand = Callable[[str, Run, str, str], argparse.ArgumentParser]
"""Takes a name, a function, a line of help and an epilog (`help_epilog`); returns the parser."""

SOME_FAILED = 3
"""Exit status if the results are complete except for unusable files, which are named."""

MODEL_CHOICES = (
    f"folder of a finished run, .cellcount file, or a bundled model: {', '.join(MODELS)}"
)

VOXEL_HELP = "micrometres per pixel, in place of the files' metadata; 2-D images use Y and X"

VERBOSE_HELP = "log everything, with a traceback of errors"

REGIONS_HELP = "file of regions, or folder of such files: also results per region"


def add_voxel_size(sub: argparse.ArgumentParser, text: str = VOXEL_HELP) -> None:
    """Adds the option `--voxel-size`, with its help text."""
    sub.add_argument("--voxel-size", nargs=3, type=float, metavar=("Z", "Y", "X"), help=text)


def add_reading(sub: argparse.ArgumentParser) -> None:
    """Adds the options for reading the images of a folder; `reading` collects them."""
    sub.add_argument("--channels", nargs="+", help="channels to use, by index or name")
    sub.add_argument("--axes", help="axes of the files, such as ZCYX, in place of their metadata")
    sub.add_argument(
        "--scene", type=int, help="index of the image in files that hold several, from 0"
    )
    sub.add_argument("--time", type=int, help="index of the time point in time series, from 0")


def reading(options: argparse.Namespace) -> dict[str, Any]:
    """The options of `add_reading` as arguments of `read_image`."""
    return {name: getattr(options, name) for name in ("channels", "axes", "scene", "time")}


def help_epilog(example: str, *written: tuple[str, str]) -> str:
    """Epilog of a help text: an example, and all files that the command writes."""
    width = max((len(name) for name, _ in written), default=0)
    files = [f"  {name:{width}}  {text}" for name, text in written]
    said = ["files that it writes:", *files] if files else ["It writes no files."]
    return "\n".join(["example:", f"  {example}", "", *said])


def add_parser(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, text: str, end: str
) -> argparse.ArgumentParser:
    """Adds a command with its help text, `end` being the epilog, and the option `-v`."""
    form = argparse.RawDescriptionHelpFormatter
    sub = commands.add_parser(name, help=text, description=text, epilog=end, formatter_class=form)
    # Without a default, which would undo a -v before the command.
    sub.add_argument(
        *("-v", "--verbose"), action="store_true", default=argparse.SUPPRESS, help=VERBOSE_HELP
    )
    return sub
