"""Bundled models: trained counters that come with the package and are loaded by name."""

from pathlib import Path

MODELS = ("nuclei",)
"""Names; each is a file `NAME.cellcount` in this folder, with its model card in `docs/NAME.md`."""

DEFAULT_MODEL = "nuclei"
"""Used if no model is named."""


def is_bundled(model: str | Path) -> bool:
    """Whether this names a bundled model; a run in a folder of that name takes precedence."""
    return str(model) in MODELS and not (Path(model) / "checkpoints").exists()


def resolve(model: str | Path) -> str | Path:
    """The file of a bundled model; anything else as it was given."""
    return Path(__file__).parent / f"{model}.cellcount" if is_bundled(model) else model
