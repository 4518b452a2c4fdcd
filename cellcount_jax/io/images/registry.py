"""Tells an image's format by its first bytes, whatever its name ends in."""

import stat
from pathlib import Path

import numpy as np

from cellcount_jax.io.images.base import (
    ProblemError,
    Request,
    Source,
    array_source,
    pick_level,
    pick_scene,
)
from cellcount_jax.io.images.czi_nd2 import open_czi, open_nd2
from cellcount_jax.io.images.ome_zarr import is_zarr, open_zarr
from cellcount_jax.io.images.pillow import open_with_pillow
from cellcount_jax.io.images.tiff import open_tiff

_JP2 = b"\x00\x00\x00\x0cjP  \r\n\x87\n"
_PILLOW = (
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"BM", "BMP"),
    (_JP2, "JPEG2000"),
    (b"\xff\x4f\xff\x51", "JPEG2000"),
    *((b"P%d" % kind, "PPM") for kind in range(1, 7)),
)
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_ND2 = b"\xda\xce\xbe\x0a"
_CZI = b"ZISRAWFILE"
_NPY = b"\x93NUMPY"
_OTHERS = ((b"\x89HDF", "HDF5"), (b"PK\x03\x04", "zip"), (b"%PDF", "PDF"), (b"<", "text"))


def open_source(path: Path, request: Request) -> Source:
    """Opens an image with the reader of its format.

    Args:
      path: of a file or an OME-Zarr folder.
      request: the caller's.

    Returns:
      The image.

    Raises:
      ProblemError: not an image that can be read.
      Exception: whatever a library raises on a damaged file.
    """
    if path.is_dir() or not path.exists():
        if is_zarr(path):
            return open_zarr(path, request)
        if path.is_dir():
            raise ProblemError("is a folder without an image; list its files with list_images")
        raise ProblemError("there is no such file")
    if not stat.S_ISREG(path.stat().st_mode):
        raise ProblemError("is no ordinary file")
    with path.open("rb") as file:
        head = file.read(16)
    if not head:
        raise ProblemError("is empty (0 bytes); copy it again")
    if head.startswith(_TIFF):
        return open_tiff(path, request)
    # Nikon's old format is JPEG 2000 with further boxes.
    if head.startswith(_ND2) or (head.startswith(_JP2) and path.suffix.lower() == ".nd2"):
        return open_nd2(path, request)
    if head.startswith(_CZI):
        return open_czi(path, request)
    pick_scene([1], request.scene)
    pick_level(1, request.level)
    if head.startswith(_NPY):
        return _open_npy(path)
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return open_with_pillow(path, "WEBP", request)
    for start, kind in _PILLOW:
        if head.startswith(start):
            return open_with_pillow(path, kind, request)
    looks = next((f" (it looks like {k})" for start, k in _OTHERS if head.startswith(start)), "")
    raise ProblemError(
        f"is no image of a known format{looks}; save it as TIFF, PNG, JPEG or OME-Zarr"
    )


def _open_npy(path: Path) -> Source:
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    return array_source(array, "")
