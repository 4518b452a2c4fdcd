"""PNG, JPEG, BMP, GIF, WebP, JPEG 2000 and PNM, decoded whole."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import imagecodecs
import numpy as np
from PIL import Image

from cellcount_jax.io.images.base import ProblemError, Request, Source, array_source, check_size

_LOG = logging.getLogger(__name__)

_AS_THEY_ARE = ("1", "L", "I", "F", "RGB", "I;16", "I;16L", "I;16B", "I;16N")
_TO_GREY = ("LA", "La")
_TO_RGB = ("RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV")


def open_with_pillow(path: Path, kind: str, request: Request) -> Source:
    """An image of one of Pillow's formats.

    Transparency is dropped, palettes and CMYK become RGB, the turn that a camera notes in EXIF is
    not applied (annotation tools do not apply it either).

    Args:
      path: of the file.
      kind: Pillow's name of the format, as its first bytes say.
      request: the caller's.

    Returns:
      Axes YX, YXS, or T before them if there are several frames.

    Raises:
      ProblemError: larger than allowed, or of a colour model that is not known.
      Exception: whatever Pillow raises on damaged files.
    """
    Image.init()
    # Image.open would apply Pillow's own limit on the size, a setting of the whole process.
    factory = Image.OPEN[kind][0]
    with path.open("rb") as file, _warnings_logged(path), factory(file, str(path)) as image:
        frames = 1 if kind == "JPEG" else getattr(image, "n_frames", 1)
        bands = len(image.getbands())
        check_size(frames * image.width * image.height * bands, request.limit, "an image")
        if frames > 1:
            arrays = []
            for frame in range(frames):
                image.seek(frame)
                arrays.append(_values(image, stored=request.stored))
            array = np.stack(arrays)
        elif kind == "PNG" and _is_deep_png(path):
            array = _deep_png(path)
        else:
            array = _values(image, stored=request.stored)
    axes = "T" * (frames > 1) + "YX"
    return array_source(array, axes + "S" * (array.ndim > len(axes)))


def _values(image: Image.Image, *, stored: bool) -> np.ndarray:
    image.load()
    mode = image.mode
    if mode in ("P", "PA"):
        if stored:
            return np.array(image.getchannel(0) if mode == "PA" else image)
        # By way of RGBA, because a palette may carry transparency.
        return np.array(image.convert("RGBA").convert("RGB"))
    if mode in _AS_THEY_ARE:
        return np.array(image)
    if mode in _TO_GREY:
        return np.array(image.getchannel(0))
    if mode in _TO_RGB:
        return np.array(image.convert("RGB"))
    raise ProblemError(f"uses the colour model {mode!r}; save it as grey or RGB")


def _is_deep_png(path: Path) -> bool:
    """Whether a PNG holds 16 bits in more than one channel, which Pillow cuts to 8."""
    with path.open("rb") as file:
        header = file.read(26)
    return len(header) == 26 and header[24] == 16 and header[25] != 0


def _deep_png(path: Path) -> np.ndarray:
    array = imagecodecs.png_decode(path.read_bytes())
    if array.ndim == 3 and array.shape[-1] in (2, 4):
        array = array[..., :-1]
    return array[..., 0] if array.ndim == 3 and array.shape[-1] == 1 else array


@contextmanager
def _warnings_logged(path: Path) -> Iterator[None]:
    """Sends a library's warnings about one file to the log."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for warning in caught:
        _LOG.info("%s: %s", path, warning.message)
