"""Bytes to pixels and back, with damage told apart from emptiness."""

import dataclasses
import io
import struct
import warnings
import zlib

import numpy as np
import PIL.Image
import tifffile

from cellcount_jax.io import log_messages
from cellcount_jax.io.annotations import base, cellpose_npy

_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
_TIFF = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
# No codec shrinks a mask further; a header that claims more is damaged.
_MAX_SHRINK = 20_000
_MIN_LIMIT = 1 << 26


@dataclasses.dataclass(frozen=True, eq=False)
class Pixels:
    """Pixels of a file: [*space] or, in colour, [*space, 3]; lossy after JPEG."""

    values: np.ndarray
    colour: bool
    lossy: bool

    @property
    def shape(self) -> tuple[int, ...]:
        """Size without channels."""
        return self.values.shape[:-1] if self.colour else self.values.shape


def is_image(source: base.Source) -> bool:
    """First bytes of PNG, JPEG, TIFF or a NumPy array."""
    return source.data.startswith((_PNG, _JPEG, *_TIFF)) or cellpose_npy.is_npy(source)


def decode(source: base.Source) -> Pixels:
    """Pixels of a file; a damaged one is an error."""
    if cellpose_npy.is_npy(source):
        return _image(source, cellpose_npy.parse(source), colour=False)
    tiff = source.data.startswith(_TIFF)
    try:
        values, colour = _read_tiff(source.data) if tiff else _read_pil(source.data)
    except PIL.UnidentifiedImageError:
        source.fail("is a damaged image (its header)")
    except Exception as error:  # the decoders raise almost anything for damaged files
        source.fail(f"is a damaged image ({base.one_line(error)})")
    return _image(source, values, colour, lossy=source.data.startswith(_JPEG))


def encode(canvas: np.ndarray, options: base.Options) -> bytes:
    """Bytes of a single-channel image, in the format of the ending of the file to write."""
    out = io.BytesIO()
    ending = options.target.lower().rsplit(".", 1)[-1]
    if ending == "npy":
        np.save(out, canvas)
    elif ending == "png" and canvas.ndim == 2 and canvas.dtype != np.uint32:
        PIL.Image.fromarray(canvas).save(out, "PNG")
    elif ending in ("tif", "tiff"):
        tifffile.imwrite(out, canvas, photometric="minisblack", compression="zlib")
    else:
        raise ValueError("such an image is written as .tif, .npy or, when 2-D, .png")
    return out.getvalue()


def _image(source: base.Source, values: np.ndarray, colour: bool, lossy: bool = False) -> Pixels:
    if values.ndim - colour not in (2, 3) or not values.size:
        source.fail(f"has shape {values.shape}; dots and masks are 2-D or 3-D")
    if colour and values.dtype.kind != "u":
        source.fail(f"is in colour with values of type {values.dtype}; 8 or 16 bit are read")
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        source.fail("holds values that are not finite")
    return Pixels(values, colour, lossy)


def _read_pil(data: bytes) -> tuple[np.ndarray, bool]:
    if data.startswith(_PNG):
        _check_png(data)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # such as a truncated or corrupt block of metadata
        warnings.simplefilter("ignore", PIL.Image.DecompressionBombWarning)
        with PIL.Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as image:
            _check_size(image.width * image.height, data)
            values = np.array(image)
    if data.startswith(_JPEG) and b"\xff\xd9" not in data[-64:]:
        raise ValueError("the end is missing")
    if values.ndim == 3 and values.shape[2] in (2, 4):  # transparency marks nothing
        values = values[..., 0] if values.shape[2] == 2 else values[..., :3]
    return values, values.ndim == 3


def _check_png(data: bytes) -> None:
    """Compares every chunk with its checksum, which Pillow does not for the pixels."""
    at = len(_PNG)
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4].rjust(4, b"\xff"))
        body, check = data[at + 4 : at + 8 + length], data[at + 8 + length : at + 12 + length]
        if len(check) < 4 or zlib.crc32(body) != int.from_bytes(check, "big"):
            raise ValueError(f"wrong checksum near byte {at}")
        if body.startswith(b"IEND"):
            return
        at += 12 + length
    raise ValueError("the end is missing")


def _read_tiff(data: bytes) -> tuple[np.ndarray, bool]:
    # Complaints about damaged tags end in an error below, or do not matter.
    with log_messages.caught("tifffile"), tifffile.TiffFile(io.BytesIO(data)) as file:
        series = file.series[0]
        _check_size(int(np.prod(series.shape, dtype=np.float64)) * series.dtype.itemsize, data)
        # tifffile fills what is missing with zeros, which would be an empty image.
        parts = series.keyframe.databytecounts
        if len(parts) != len(series.keyframe.dataoffsets) or not parts or min(parts) < 1:
            raise ValueError("pixels are missing")
        values, axes = series.asarray(), series.axes
    colour = axes.endswith("S") and values.shape[-1] in (3, 4)
    space = values.shape[:-1] if colour else values.shape
    kept = tuple(side for side in space if side > 1) if len(space) > 2 else space
    if len(kept) < 2:
        kept = space[-2:]
    values = values.reshape(*kept, values.shape[-1]) if colour else values.reshape(kept)
    return (values[..., :3], True) if colour else (values, False)


def _check_size(size: int, data: bytes) -> None:
    if size > max(_MIN_LIMIT, _MAX_SHRINK * len(data)):
        raise ValueError(f"it claims {size} bytes of pixels")
