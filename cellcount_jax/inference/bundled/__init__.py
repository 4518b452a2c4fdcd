"""Bundled models: trained counters that come with the package and are loaded by name."""

from pathlib import Path

MODELS = ("nuclei", "tissue", "phase", "blood", "nuclei3d")
"""Names of the models: `NAME.cellcount` in this folder; their model cards are `docs/nuclei.md` and
`docs/models.md`."""

DEFAULT_MODEL = "nuclei"
"""The model where none is named and the images are not looked at."""


def is_bundled(model: str | Path) -> bool:
    """Whether `model` names a bundled model; a folder of that name takes precedence."""
    return str(model) in MODELS and not (Path(model) / "checkpoints").exists()


def resolve(model: str | Path) -> str | Path:
    """The file of a bundled model; any other path unchanged."""
    return Path(__file__).parent / f"{model}.cellcount" if is_bundled(model) else model
