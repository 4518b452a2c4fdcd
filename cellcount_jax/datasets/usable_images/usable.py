"""Which annotated images of a folder are trained on, and which are left out, and why.

A folder of a lab often holds a damaged file, dots that belong to another image, a stack among
planes. These are left out, each with its line, unless they are so many that something is wrong
with all of them.
"""

import collections
import dataclasses
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cellcount_jax.data.sample import Sample
from cellcount_jax.datasets.usable_images.misplaced_dots import Doubt, find_misplaced
from cellcount_jax.io.annotations.dots import read_dots
from cellcount_jax.io.images.axes import chosen_spacing
from cellcount_jax.io.images.image import open_lazy, read_image
from cellcount_jax.io.pairing import FolderError
from cellcount_jax.runtime.path_text import path_text

MAX_NAMED = 20
"""Largest number of unusable images that are named in the log."""

log = logging.getLogger(__name__)


def check_enough(folder: Path, errors: Sequence[ValueError], n_annotated: int) -> None:
    """Refuses a folder of which half of the annotated images cannot be used.

    Args:
      folder: The folder that is read.
      errors: Errors of its annotated images that cannot be used.
      n_annotated: Number of its annotated images, with these.

    Raises:
      ValueError: The only error, if there is just one.
      FolderError: There are several; the log names each.
    """
    if not errors or 2 * len(errors) < n_annotated:
        return
    if len(errors) == 1:
        raise errors[0]
    for error in errors[:MAX_NAMED]:
        log.error("%s", error)
    raise FolderError(
        f"{path_text(folder)}: {len(errors)} of {n_annotated} images with dots cannot be used (see "
        "above); fix them, or move them out of the folder"
    )


def of_another_kind(samples: Sequence[Sample]) -> dict[str, str]:
    """Name -> why, of the images whose axes or channels are not those of most.

    Empty where no kind is that of more than half of them: which to take is then the user's choice.
    """
    kinds = {s.name: (s.image.ndim - 1, s.image.shape[-1]) for s in samples}
    if not kinds:
        return {}
    usual, n = collections.Counter(kinds.values()).most_common(1)[0]
    if 2 * n <= len(kinds):
        return {}
    return {
        name: f"{name}: is {_kind(kind)}, where most images with dots are {_kind(usual)}; choose "
        "channels or axes that all have, or move it out of the folder"
        for name, kind in kinds.items()
        if kind != usual
    }


def _kind(kind: tuple[int, int]) -> str:
    return f"{kind[0]}-D with {kind[1]} channel{'s' * (kind[1] > 1)}"


def misplaced(samples: Sequence[Sample]) -> dict[str, Doubt]:
    """Name -> why, of the images whose dots do not seem to belong to them; lines have the name."""
    names = [s.name for s in samples]
    found = find_misplaced([s.image for s in samples], [s.dots for s in samples], names)
    return {name: doubt._replace(line=f"{name}: {doubt.line}") for name, doubt in found.items()}


@dataclasses.dataclass(frozen=True)
class _File:
    """An image [y, x, channel] on disk that is read, as `chosen`, when it is looked at."""

    path: Path
    shape: tuple[int, ...]
    chosen: Mapping[str, Any]

    def read(self) -> np.ndarray:
        return read_image(self.path, **self.chosen).pixels


def misplaced_on_disk(
    folder: Path,
    pairs: Mapping[Path, Path],
    *,
    voxel_size: Sequence[float] | None = None,
    **chosen: Any,
) -> dict[Path, str]:
    """Image -> why its dots do not seem to belong to it; images are read one at a time.

    Files that cannot be read are passed over: whoever uses them says why.

    Args:
      folder: The images lie in it.
      pairs: Image -> its file of dots.
      voxel_size: Micrometres per pixel, (z, y, x), in place of the files' metadata.
      **chosen: `channels`, `axes`, `scene` and `time` of `read_image`.
    """
    files, dots = {}, []
    for path, annotation in pairs.items():
        try:
            with open_lazy(path, **chosen) as image:
                shape, spacing = image.shape, chosen_spacing(image, voxel_size)
            found = read_dots(annotation, image_shape=shape[:-1], pixel_size=spacing)
        except (ValueError, OSError):
            continue
        files[path_text(path.relative_to(folder).as_posix())] = _File(path, shape, chosen)
        dots.append(found.points)
    doubts = find_misplaced(list(files.values()), dots, list(files))
    return {files[name].path: doubt.line for name, doubt in doubts.items()}
