"""Types and options that several commands share."""

import argparse
from collections.abc import Callable
from typing import Any

Run = Callable[[argparse.Namespace], int]
"""Executes a command and returns its exit status."""

AddCommand = Callable[[str, Run, str], argparse.ArgumentParser]
"""Takes a name, a function and a line of help; returns the parser of the command's options."""

SOME_FAILED = 3
"""Exit status when the results are complete but for files that could not be used; each is named."""

MODEL_CHOICES = "folder of a finished run, .cellcount file, or nuclei, which is bundled"

VOXEL_SIZE: dict[str, Any] = {"nargs": 3, "type": float, "metavar": ("Z", "Y", "X")}
"""Of the option --voxel-size."""

REGIONS_HELP = "file of regions, or folder of such files: results for each region, too"
