"""Finds the images in files, folders and patterns."""

import fnmatch
import glob
import logging
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from cellcount_jax.io.images.base import ImageError
from cellcount_jax.io.images.ome_zarr import inner_images, is_zarr

IMAGE_EXTENSIONS = (
    ".png", ".jpg", ".jpeg", ".jfif", ".tif", ".tiff", ".tf2", ".tf8", ".btf", ".zarr", ".npy",
    ".czi", ".nd2", ".bmp", ".gif", ".webp", ".jp2", ".pgm", ".ppm", ".pnm", ".pbm", ".lsm", ".stk",
    ".svs", ".ndpi", ".scn", ".qptiff",
)  # fmt: skip

UNREADABLE_EXTENSIONS = (
    ".lif", ".oib", ".oif", ".vsi", ".ims", ".mrxs", ".dv", ".r3d", ".sld", ".zvi", ".flex", ".h5",
    ".hdf5", ".ets", ".dcm", ".nii", ".nrrd", ".heic", ".avif", ".raw", ".cr2", ".nef",
)  # fmt: skip
"""Suffixes of image formats that are not read; the log reports such files in a folder."""

OUTPUT_FOLDERS = ("overlays", "density", "points")
"""Folders that a call of `predict` writes beside its table."""

log = logging.getLogger(__name__)


def list_images(
    paths: str | Path | Sequence[str | Path], *, pattern: str | None = None
) -> list[Path]:
    """Images in files, folders and patterns.

    A file is taken whatever its extension. Folders are searched recursively, links to folders
    included, for files of `IMAGE_EXTENSIONS`; an OME-Zarr folder is one image; hidden files and
    what an earlier count wrote (overlays, densities) are skipped. The log names images of formats
    that are not read.

    Args:
      paths: One or more files, folders or patterns such as `plate/*/*.tif`.
      pattern: Only these of a folder's files, such as `*_ch0.tif`; compared with the name and
        with the path inside the folder.

    Returns:
      Paths without repetition, those of a folder or pattern in natural order (2 before 10).

    Raises:
      ImageError: A path that does not exist, or one with no image in it.
    """
    given = [paths] if isinstance(paths, (str, Path)) else list(paths)
    found: dict[Path, None] = {}
    for path in given:
        found.update(dict.fromkeys(_images_in(Path(path), pattern)))
    return list(found)


def natural_key(path: Path) -> list[tuple[tuple[int, int | str], ...]]:
    """Sorts numbers inside names by value, folder by folder."""
    return [
        tuple((0, int(p)) if p.isdigit() else (1, p.lower()) for p in re.split(r"(\d+)", part) if p)
        for part in path.parts
    ]


def _images_in(path: Path, pattern: str | None) -> list[Path]:
    if path.is_file():
        return [path]
    if path.is_dir():
        found: Iterable[Path] = (p for p in _folder(path) if _matches(p, path, pattern))
        where = str(path) if pattern is None else f"{path}, pattern {pattern!r}"
    elif glob.has_magic(str(path)):
        matches = [Path(p) for p in glob.glob(str(path), recursive=True)]
        folders = {p for p in matches if p.is_dir()}
        found = {p for p in matches if p not in folders and _is_image(p)}
        found = {*found, *(p for folder in folders for p in _folder(folder))}
        where = str(path)
    else:
        raise ImageError(f"{path}: there is no such file or folder")
    if not (result := sorted(found, key=natural_key)):
        raise ImageError(f"{where}: no images found (looked for {', '.join(IMAGE_EXTENSIONS)})")
    return result


def _walk(folder: Path) -> Iterator[Path]:
    seen, unreadable = {os.path.realpath(folder)}, []
    for where, names, files in os.walk(folder, followlinks=True):
        if "counts.csv" in files:
            made = [name for name in names if name in OUTPUT_FOLDERS]
            if made:
                log.info("%s: %s skipped: files of an earlier count", where, ", ".join(made))
            names[:] = [name for name in names if name not in made]
        unreadable += [name for name in files if name.lower().endswith(UNREADABLE_EXTENSIONS)]
        inside = [Path(where, name) for name in names if not name.startswith(".")]
        # A link may lead to a folder that was searched already, or to one above it.
        inside = [p for p in inside if os.path.realpath(p) not in seen]
        seen.update(map(os.path.realpath, inside))
        images = [p for p in inside if is_zarr(p)]
        # Modified in place, so that os.walk enters neither hidden folders nor images.
        names[:] = [p.name for p in inside if p not in images]
        for image in images:
            yield from _folder(image)
        yield from (Path(where, name) for name in files if _is_image(Path(name)))
    if unreadable:
        log.warning(
            "%s: images in formats that are not read (%d) are left out, such as %s; save them as "
            "TIFF",
            *(folder, len(unreadable), unreadable[0]),
        )


def _folder(path: Path) -> Iterable[Path]:
    """Images in a folder, which may be one itself."""
    return (inner_images(path) or [path]) if is_zarr(path) else _walk(path)


def _is_image(path: Path) -> bool:
    return not path.name.startswith(".") and path.name.lower().endswith(IMAGE_EXTENSIONS)


def _matches(path: Path, folder: Path, pattern: str | None) -> bool:
    if pattern is None:
        return True
    inside = path.relative_to(folder).as_posix()
    return fnmatch.fnmatch(path.name, pattern) or fnmatch.fnmatch(inside, pattern)
