"""Which images of one file are counted: scenes, time points, planes of a stack; a row each."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from cellcount_jax.io.images.image import count_scenes, count_steps
from cellcount_jax.prediction.options import Options

log = logging.getLogger(__name__)


class Part(NamedTuple):
    """One image of a file; a field is None if the file has only one. All indices start at 0."""

    scene: int | None = None
    time: int | None = None
    slice: int | None = None

    @property
    def position(self) -> dict[str, int]:
        """Options of `open_lazy`."""
        return {k: v for k, v in (("T", self.time), ("Z", self.slice)) if v is not None}

    @property
    def columns(self) -> dict[str, Any]:
        """Columns of the table that identify the part."""
        return {k: "" if v is None else v for k, v in self._asdict().items()}


def parts_of(path: Path, options: Options) -> list[Part]:
    """The images of a file that are counted: those chosen by the user, else all.

    Planes of a stack are images of their own only if the user asks for it.

    Raises:
      ImageError: The file cannot be read.
    """
    scenes: list[int | None] = [options.scene]
    if options.scene is None and (n := count_scenes(path)) > 1:
        log.info("%s: %d scenes, a row each; choose one with --scene", path, n)
        scenes = list(range(n))
    parts = []
    for scene in scenes:
        steps = count_steps(path, axes=options.axes, scene=scene)
        times: list[int | None] = [None]
        if (n := steps.get("T", 1)) > 1:
            if options.time is None:
                log.info("%s: %d time points, a row each; choose one with --time", path, n)
            times = list(range(n)) if options.time is None else [options.time]
        planes: list[int | None] = [None]
        if options.per_slice and steps.get("Z", 1) > 1:
            planes = list(range(steps["Z"]))
        parts += [Part(scene, time, plane) for time in times for plane in planes]
    return parts


def part_name(name: str, row: Mapping[str, Any]) -> str:
    """Name of a part's outputs: the file's, and what distinguishes the part.

    Args:
      name: Name of the file's outputs.
      row: Row with the columns of the part.
    """
    found = [(key, row.get(key)) for key in Part._fields]
    return name + "".join(f"_{key}{value}" for key, value in found if value not in (None, ""))
