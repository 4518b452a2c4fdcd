"""Models in the box: trained counters that come with the package, called by their names."""

from pathlib import Path

NAMES = ("nuclei",)
"""Each is a file `NAME.cellcount` in this folder; its card is `docs/NAME.md`."""

DEFAULT = "nuclei"
"""Counts where no model is named."""


def holds(model: str | Path) -> bool:
    """Whether a model is one of the box: a run in a folder of that name comes before it."""
    return str(model) in NAMES and not (Path(model) / "checkpoints").exists()


def resolve(model: str | Path) -> str | Path:
    """The file of a model in the box; anything else as it was given."""
    return Path(__file__).parent / f"{model}.cellcount" if holds(model) else model
