"""Which objects of a file are the cells, and which of its images is asked for."""

import logging
from collections.abc import Sequence
from pathlib import PurePath

from cellcount_jax.io.annotations import base

_LOG = logging.getLogger(__name__)


def cell_kinds(file: base.AnnotationFile, kinds: Sequence[str]) -> set[str]:
    """Which of QuPath's object types are the cells of a file.

    Where a file has cells or detections, its annotations (tissue, regions) are not counted, which
    is logged. A file of one type alone is read as it is: clicks are annotations, too.

    Args:
      file: The file, for messages.
      kinds: Type of each object in lower case, "" where the file names none.

    Raises:
      ValueError: Cells beside detections that are none, so that one nucleus may be there twice.
    """
    present = set(kinds)
    cells = present & {"cell", "detection", "tile"}
    if not cells or present == cells == {"tile"}:
        return present
    cells -= {"tile"}
    if len(cells) > 1:
        file.fail("holds cells and detections. Export those of one object type")
    left = sum(kind not in cells for kind in kinds)
    if left:
        others = ", ".join(sorted(base.quoted(kind or "no type") for kind in present - cells))
        _LOG.warning(
            "%s: objects that are not cells (%d: %s) are left out", file.path, left, others
        )
    return cells


def pick_image(file: base.AnnotationFile, names: Sequence[str], wanted: str | None) -> str:
    """The one of several image names in a file that is asked for.

    A name fits if it is equal, else if its last part is, else if that is without its extension.

    Raises:
      ValueError: None or several fit.
    """
    shown = ", ".join(base.quoted(name) for name in list(names)[:5]) + (
        " ..." if len(names) > 5 else ""
    )
    if wanted is None:
        if len(names) == 1:
            return names[0]
        file.fail(f"holds dots of {len(names)} images ({shown}). Pass image_name=")
    for same in (str, _last_part, lambda name: PurePath(_last_part(name)).stem):
        fitting = [name for name in names if same(name) == same(wanted)]
        if len(fitting) == 1:
            return fitting[0]
        if fitting:
            file.fail(f"several images fit image_name={base.quoted(wanted)}: {shown}")
    file.fail(f"holds no image {base.quoted(wanted)}, but {shown}. Pass another image_name=")


def _last_part(name: str) -> str:
    return name.replace("\\", "/").rsplit("/", 1)[-1]
