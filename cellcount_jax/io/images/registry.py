"""Detects an image's format from its first bytes, whatever the file name says."""

import stat
from pathlib import Path

import numpy as np

from cellcount_jax.io.images import base
from cellcount_jax.io.images.czi_nd2 import open_czi, open_nd2
from cellcount_jax.io.images.ome_zarr import is_zarr, open_zarr
from cellcount_jax.io.images.pillow import open_with_pillow
from cellcount_jax.io.images.tiff import open_tiff

# Formats of Pillow by Pillow's names.
_SIGNATURES = (
    *((start, "TIFF") for start in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")),
    (b"\xda\xce\xbe\x0a", "ND2"),
    (b"ZISRAWFILE", "CZI"),
    (b"\x93NUMPY", "NPY"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"BM", "BMP"),
    (b"\x00\x00\x00\x0cjP  \r\n\x87\n", "JPEG2000"),
    (b"\xff\x4f\xff\x51", "JPEG2000"),
    *((b"P%d" % kind, "PPM") for kind in range(1, 7)),
)
_NO_IMAGES = ((b"\x89HDF", "HDF5"), (b"PK\x03\x04", "zip"), (b"%PDF", "PDF"), (b"<", "text"))


def image_format(head: bytes) -> str | None:
    """Format of a file from its first 16 bytes, such as PNG or TIFF; None if it is none we read."""
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "WEBP"
    return next((name for start, name in _SIGNATURES if head.startswith(start)), None)


def open_reader(path: Path, request: base.Request) -> base.ImageReader:
    """Opens a file or an OME-Zarr folder with the reader of its format.

    Raises:
      ProblemError: Not an image that can be read.
      Exception: Whatever a library raises on a damaged file.
    """
    if path.is_dir() or not path.exists():
        if is_zarr(path):
            return open_zarr(path, request)
        if path.is_dir():
            raise base.ProblemError("is a folder without an image; list its files with list_images")
        link = path.is_symlink()
        raise base.ProblemError(
            "is a link to a file that is not there, or to itself; copy the file"
            if link
            else "there is no such file"
        )
    if not stat.S_ISREG(path.stat().st_mode):
        raise base.ProblemError("is not a regular file, but a pipe or a device")
    with path.open("rb") as file:
        head = file.read(16)
    if not head:
        raise base.ProblemError("is empty (0 bytes); copy it again")
    format = image_format(head)
    if format == "TIFF":
        return open_tiff(path, request)
    # Nikon's old format is JPEG 2000 with further boxes.
    if format == "ND2" or (format == "JPEG2000" and path.suffix.lower() == ".nd2"):
        return open_nd2(path, request)
    if format == "CZI":
        return open_czi(path, request)
    base.pick_scene([1], request.scene)
    base.pick_level(1, request.level)
    if format == "NPY":
        return _open_npy(path, request)
    if format is not None:
        return open_with_pillow(path, format, request)
    looks = next((f" (it looks like {k})" for start, k in _NO_IMAGES if head.startswith(start)), "")
    raise base.ProblemError(
        f"is not an image of a known format{looks}; save it as TIFF, PNG, JPEG or OME-Zarr"
    )


def _open_npy(path: Path, request: base.Request) -> base.ImageReader:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError as error:
        if "Python objects" in str(error):
            text = "holds Python objects, no pixels; save a plain array of numbers"
        elif "greater than file size" in str(error):
            text = "is cut short: it declares more than it holds; copy it again"
        else:
            raise
        raise base.ProblemError(text) from error
    if request.strict and array.offset + array.nbytes != path.stat().st_size:
        raise base.ProblemError("is damaged (its size does not fit its header); save it again")
    return base.array_reader(array, "")
