"""PNG, JPEG, BMP, GIF, WebP, JPEG 2000 and PNM, decoded whole."""

import logging
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cellcount_jax.io.bounded_file import BoundedFile
from cellcount_jax.io.images import base
from cellcount_jax.io.images.orientation import ORIENTATION_TAG, upright, warn_of_rotation

_LOG = logging.getLogger(__name__)

_UNCHANGED_MODES = ("1", "L", "I", "F", "RGB", "I;16", "I;16L", "I;16B", "I;16N")
_TO_GREY = ("LA", "La")
_TO_RGB = ("RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV")
_PNG_SIGNATURE_SIZE = 8


def open_with_pillow(path: Path, format: str, request: base.Request) -> base.ImageReader:
    """An image of one of Pillow's formats.

    Transparency is dropped, palettes and CMYK become RGB. Images and masks are rotated as the EXIF
    orientation says, which is logged: LabelMe, browsers and viewers do the same, ImageJ does not.

    Args:
      path: Path of the file.
      format: Pillow's name of it.
      request: What the caller asks for.

    Returns:
      Axes YX, YXS, or T before them if there are several frames.

    Raises:
      ProblemError: Larger than allowed, of an unknown colour model, or damaged.
      Exception: Whatever Pillow raises on damaged files.
    """
    if request.strict:
        _check_complete(path.read_bytes(), format)
    with _opened(path, format, strict=request.strict) as image:
        frames = 1 if format == "JPEG" else getattr(image, "n_frames", 1)
        values = image.width * image.height * len(image.getbands())
        base.check_size(values, request.limit, "an image")
        base.check_held(frames * values, path.stat().st_size)
        orientation = image.getexif().get(ORIENTATION_TAG, 1)
        deep = frames == 1 and format == "PNG" and _is_deep_png(path)
        array = _deep_png(path, request) if deep else _values(image, path, request)
    warn_of_rotation(str(path), orientation)
    array = upright(array, orientation)
    axes = "YX" + "S" * (array.ndim > 2)
    if frames == 1:
        return base.array_reader(array, axes)

    def read(slices: base.Slices) -> np.ndarray:
        rows, wanted = [], range(slices[0].start, slices[0].stop, slices[0].step)
        with _opened(path, format, strict=request.strict) as image:
            size = image.size
            for frame in range(wanted[-1] + 1):
                image.seek(frame)  # one by one: the decoder needs those before it anyway
                _check_frame(image, frame, size)
                if frame not in wanted:
                    continue
                found = upright(_values(image, path, request), orientation)
                if found.shape != array.shape:
                    raise base.ProblemError("has frames of several kinds; save them as files")
                rows.append(found[slices[1:]])
        return np.stack(rows)

    shape = (frames, *array.shape)
    return base.ImageReader(shape, array.dtype, f"T{axes}", read, chunks=(1, *array.shape))


@contextmanager
def _opened(path: Path, format: str, *, strict: bool) -> Iterator[Any]:
    Image.init()
    # Image.open would apply Pillow's own limit on the size, a setting of the whole process.
    factory = Image.OPEN[format][0]
    with (
        BoundedFile(path) as file,
        _captured_warnings(path, strict=strict),
        factory(file, str(path)) as image,
    ):
        yield image


def _check_frame(image: Image.Image, number: int, size: tuple[int, int]) -> None:
    """Refuses a frame that is not as large as the first, before it is decoded."""
    if image.size != size:
        raise base.ProblemError(
            f"its frame {number} has {image.width} x {image.height} pixels and the first "
            f"{size[0]} x {size[1]}; save the frames as files"
        )


def _values(image: Image.Image, path: Path, request: base.Request) -> np.ndarray:
    image.load()
    mode = image.mode
    if mode in ("P", "PA"):
        if request.stored:
            return np.array(image.getchannel(0) if mode == "PA" else image)
        # Through RGBA, because a palette may carry transparency.
        return np.array(image.convert("RGBA").convert("RGB"))
    if mode in _UNCHANGED_MODES or (request.all_samples and mode in ("LA", "RGBA")):
        return np.array(image)
    if mode in ("LA", "RGBA") and not request.stored:
        low, high = image.getchannel("A").getextrema()
        if low != high:
            base.warn_of_transparency(str(path), len(mode))
    if mode in _TO_GREY:
        return np.array(image.getchannel(0))
    if mode in _TO_RGB:
        return np.array(image.convert("RGB"))
    raise base.ProblemError(f"uses the colour model {mode!r}; save it as grey or RGB")


def _is_deep_png(path: Path) -> bool:
    """Whether a PNG holds 16 bits in more than one channel, which Pillow cuts to 8."""
    with path.open("rb") as file:
        header = file.read(26)
    return len(header) == 26 and header[24] == 16 and header[25] != 0


def _deep_png(path: Path, request: base.Request) -> np.ndarray:
    import imagecodecs  # large, and few images need it

    array = imagecodecs.png_decode(path.read_bytes())
    if array.ndim == 3 and array.shape[-1] in (2, 4) and not request.all_samples:
        if np.ptp(array[..., -1]) and not request.stored:
            base.warn_of_transparency(str(path), array.shape[-1])
        array = array[..., :-1]
    return array[..., 0] if array.ndim == 3 and array.shape[-1] == 1 else array


def _check_complete(data: bytes, format: str) -> None:
    """Looks for the end of a PNG or JPEG and compares the checksums of a PNG.

    Pillow does not check those of the pixels, and fills what is missing of a JPEG with grey.
    """
    if format == "JPEG" and b"\xff\xd9" not in data[-64:]:
        raise base.ProblemError("is damaged (its end is missing); save or copy it again")
    if format != "PNG":
        return
    position = _PNG_SIGNATURE_SIZE
    while position < len(data):
        (length,) = struct.unpack(">I", data[position : position + 4].rjust(4, b"\xff"))
        body = data[position + 4 : position + 8 + length]
        checksum = data[position + 8 + length : position + 12 + length]
        if len(checksum) < 4 or zlib.crc32(body) != int.from_bytes(checksum, "big"):
            raise base.ProblemError(
                f"is damaged (wrong checksum near byte {position}); copy it again"
            )
        if body.startswith(b"IEND"):
            return
        position += 12 + length
    raise base.ProblemError("is damaged (its end is missing); save or copy it again")


@contextmanager
def _captured_warnings(path: Path, *, strict: bool) -> Iterator[None]:
    """Sends a library's warnings about one file to the log; if strict, they are errors."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for warning in caught:
        if strict:
            raise base.ProblemError(f"is damaged ({warning.message}); save or copy it again")
        _LOG.info("%s: %s", path, warning.message)
