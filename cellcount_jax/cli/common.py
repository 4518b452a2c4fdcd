"""What the commands share."""

import argparse
from collections.abc import Callable, Sequence

Run = Callable[[argparse.Namespace], int]
"""Does what a command is for and returns the exit code."""

AddCommand = Callable[[str, Run, str], argparse.ArgumentParser]
"""Takes name, what to run and a line of help; returns the parser of the command's options."""

MODEL_HELP = (
    "finished run, .cellcount file, or nuclei, which comes with the package; default: nuclei"
)


def channels_of(given: Sequence[str] | None) -> list[int | str] | None:
    """Channels by index or name."""
    return None if given is None else [int(c) if c.isdigit() else c for c in given]
