"""Types and options that several commands share."""

import argparse
from collections.abc import Callable

Run = Callable[[argparse.Namespace], int]
"""Executes a command and returns its exit status."""

AddCommand = Callable[[str, Run, str], argparse.ArgumentParser]
"""Takes a name, a function and a line of help; returns the parser of the command's options."""

SOME_FAILED = 3
"""Exit status when the results are complete but for files that could not be used; each is named."""

MODEL_CHOICES = "folder of a finished run, .cellcount file, or nuclei, which is bundled"

VOXEL_HELP = "micrometres per pixel, in place of the files' metadata; 2-D images use Y and X"

REGIONS_HELP = "file of regions, or folder of such files: results for each region, too"


def add_voxel_size(sub: argparse.ArgumentParser, text: str = VOXEL_HELP) -> None:
    """Adds the option `--voxel-size`, with its help text."""
    names = ("-v", "--voxel-size")
    sub.add_argument(*names, nargs=3, type=float, metavar=("Z", "Y", "X"), help=text)
