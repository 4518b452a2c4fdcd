"""Which images a call counts: not annotations, nor what an earlier call wrote."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path

from cellcount_jax.io.images.find import list_images
from cellcount_jax.io.pairing import without_annotations

log = logging.getLogger(__name__)

N_NAMES = 5
"""Maximum number of files that a log line names."""


def find_images(
    paths: str | Path | Sequence[str | Path], out: Path, *, pattern: str | None = None
) -> list[Path]:
    """Images in files, folders and patterns, except those that an earlier call wrote into `out`.

    Images in the `dots/` folder beside an `images/` folder are annotations; they are counted only
    if they or their folder are named.

    Raises:
      ImageError: A path that does not exist, or no image in it.
    """
    given = [Path(p) for p in ([paths] if isinstance(paths, str | Path) else paths)]
    found = list_images(paths, pattern=pattern)
    # Path.resolve would fail on a link to itself.
    real = {p: Path(os.path.realpath(p)) for p in found}
    made = [Path(os.path.realpath(out / folder)) for folder in ("overlays", "density")]
    images = [
        p
        for p in found
        if not any(m in real[p].parents for m in made) and not _is_annotation(p, given)
    ]
    named = [p for p in images if p in given]
    kept = dict.fromkeys([*named, *without_annotations(images)])
    left_out = [p.name for p in images if p not in kept]
    if left_out:
        log.warning(
            "by their names masks or drawings of other images, and not counted (%d): %s; name them "
            "to count them",
            *(len(left_out), ", ".join(left_out[:N_NAMES]) + " ..." * (len(left_out) > N_NAMES)),
        )
    return [p for p in images if p in kept]


def _is_annotation(path: Path, given: Sequence[Path]) -> bool:
    """Whether it lies in a `dots/` folder, and neither that nor anything in it is in `given`."""
    dots = [d for d in path.parents if d.name == "dots" and (d.parent / "images").is_dir()]
    return bool(dots) and not any(d == g or d in g.parents for d in dots for g in given)
