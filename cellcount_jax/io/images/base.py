"""What all readers of images share: an array of named axes that is read in parts, and errors."""

import dataclasses
import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from cellcount_jax.runtime.error_text import one_line

log = logging.getLogger(__name__)

T = TypeVar("T")

Slices = tuple[slice, ...]

MAX_COMPRESSION_RATIO = 20_000
"""Most values per byte that a file may declare, if they are more than `MIN_VALUES`."""

MIN_VALUES = 1 << 26


class ImageError(ValueError):
    """An image that cannot be read; one line with the file, what is wrong and what to do."""


class ProblemError(ValueError):
    """What is wrong with an image and what to do; `io.images.image` puts the path before it."""


class ChooseError(ProblemError):
    """A file of several images, of which the caller must choose one.

    Attributes:
      count: Number of its images.
    """

    def __init__(self, count: int):
        super().__init__(
            f"holds {count} images; choose one with scene=0 to scene={count - 1} (--scene)"
        )
        self.count = count


@dataclasses.dataclass(frozen=True)
class ImageReader:
    """One open image as its file stores it.

    Attributes:
      shape: Length of each axis.
      dtype: Data type of the values.
      axes: A letter per axis: T time, Z, C channel, Y, X, S samples of a colour; others are
        unknown, named by the library that reads the file. Empty if the file names none.
      read: Values of a part; slices have start, stop and a positive step, all inside the shape.
      chunks: Shape of the parts that the file stores together.
      spacing: Micrometres per pixel by axis letter, as far as the file says.
      channel_names: Channel names in the file, or empty.
      borrowed: `read` returns views of the file or of a cache.
      close: Closes the file.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    axes: str
    read: Callable[[Slices], np.ndarray]
    chunks: tuple[int, ...] = ()
    spacing: Mapping[str, float] = dataclasses.field(default_factory=dict)
    channel_names: tuple[str, ...] = ()
    borrowed: bool = False
    close: Callable[[], None] = lambda: None


@dataclasses.dataclass(frozen=True)
class Request:
    """What a caller requests from a reader.

    Attributes:
      scene: Index of the image in a file of several; None if there is only one.
      level: Level of a pyramid, 0 is the finest.
      stored: Values as stored: no colours for a palette, no inversion.
      strict: Damage that viewers tolerate (a wrong checksum, a missing tile, any warning of the
        decoder) is an error.
      limit: Most values that may be decoded at once.
      all_samples: Samples that the file tags as transparency are kept, because the caller names
        channels: programs that write four channels often tag the fourth so.
    """

    scene: int | None = None
    level: int = 0
    stored: bool = False
    strict: bool = False
    limit: int = 2**29
    all_samples: bool = False


def warn_of_transparency(name: str, sample: int) -> None:
    """Warns that a sample of a colour image is left out."""
    log.warning(
        "%s: sample %d is tagged as transparency and left out; if it is a stain, count it with "
        "--channels %d (the first is 0)",
        *(name, sample, sample - 1),
    )


def array_reader(array: np.ndarray, axes: str) -> ImageReader:
    """Reader of values that are in memory or memory-mapped."""
    return ImageReader(
        shape=array.shape,
        dtype=array.dtype,
        axes=axes,
        read=lambda slices: array[slices],
        chunks=array.shape,
        borrowed=True,
    )


def guess_axes(shape: Sequence[int]) -> str:
    """Axes of an array that does not name them.

    Up to four values along the last axis, or along the first, are channels; two other axes are
    (y, x), three (z, y, x); five axes are those of OME-Zarr.

    Raises:
      ProblemError: None of these rules applies.
    """
    if len(shape) == 2:
        return "YX"
    if len(shape) == 5:
        return "TCZYX"
    if len(shape) in (3, 4):
        space = "ZYX"[3 - (len(shape) - 1) :]
        if shape[-1] <= 4:
            return space + "C"
        if shape[0] <= 4:
            return "C" + space
        if len(shape) == 3:
            return "ZYX"
    raise ProblemError(
        f"an array of shape {tuple(shape)} does not say what its axes are; pass axes"
    )


_MICROMETRES = {
    "m": 1e6, "meter": 1e6, "metre": 1e6,
    "cm": 1e4, "centimeter": 1e4, "centimetre": 1e4,
    "mm": 1e3, "millimeter": 1e3, "millimetre": 1e3,
    "um": 1.0, "micron": 1.0, "microns": 1.0, "micrometer": 1.0, "micrometre": 1.0,
    "nm": 1e-3, "nanometer": 1e-3, "nanometre": 1e-3,
    "pm": 1e-6, "angstrom": 1e-4, "å": 1e-4, "inch": 25400.0, "in": 25400.0,
}  # fmt: skip


def to_micrometres(value: object, unit: object) -> float | None:
    """A length in micrometres; None if it is not a positive number in a known unit."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    # Both signs for micro, also as ImageJ escapes them.
    name = str(unit).strip().lower().replace("\\u00b5", "u").replace("µ", "u").replace("μ", "u")
    size = number * _MICROMETRES.get(name, math.nan)
    return size if 0 < size < math.inf else None


def spacing_of(lengths: Iterable[tuple[str, object, object]]) -> dict[str, float]:
    """Micrometres by axis letter of (axis, length, unit), without those that are unknown."""
    sizes = {axis: to_micrometres(value, unit) for axis, value, unit in lengths}
    return {axis: size for axis, size in sizes.items() if size is not None}


def pick_scene(sizes: Sequence[int], scene: int | None) -> int:
    """Index of the image to read.

    Args:
      sizes: Pixels of each image in the file.
      scene: The caller's choice; without one, the first if all others are smaller (a slide with
        its thumbnail and label).

    Raises:
      ProblemError: There is no such image, or the caller must choose.
    """
    if not sizes:
        raise ProblemError("holds no image; open it in another program to see what is in it")
    if scene is None:
        if any(size >= sizes[0] for size in sizes[1:]):
            raise ChooseError(len(sizes))
        if len(sizes) > 1:
            log.warning(
                "holds %d images; the first, which is the largest, is taken (--scene chooses)",
                len(sizes),
            )
        return 0
    if not 0 <= scene < len(sizes):
        raise ProblemError(f"holds {len(sizes)} images, no scene={scene}; the first is 0")
    return scene


def pick_level(count: int, level: int) -> int:
    """Checks a pyramid's level.

    Raises:
      ProblemError: The pyramid has no such level.
    """
    if not 0 <= level < count:
        raise ProblemError(f"has {count} levels, no level={level}; the first is 0")
    return level


def check_size(values: int, limit: int, what: str) -> None:
    """Refuses what would exhaust the memory.

    Raises:
      ProblemError: More than `limit` values.
    """
    if values > limit:
        raise ProblemError(
            f"{what} of {values} values (limit {limit}); if that is right, raise max_pixels or "
            "read it by parts with open_lazy"
        )


def check_held(values: int, size: int) -> None:
    """Refuses a file of `size` bytes that declares far more values than it can hold.

    Raises:
      ProblemError: It does.
    """
    if values > max(MIN_VALUES, MAX_COMPRESSION_RATIO * size):
        raise ProblemError(
            f"declares {values} values in {size} bytes; it is damaged, or made to fill the memory"
        )


def guarded(path: Path, action: Callable[[], T]) -> T:
    """Result of a reader; whatever a library raises on a damaged file becomes one line.

    Args:
      path: The file, for the message.
      action: Reads of it.

    Raises:
      ImageError: It cannot be read.
    """
    try:
        return action()
    except ImageError:
        raise
    except Exception as error:
        log.debug("%s", path, exc_info=True)
        raise ImageError(_error_line(path, error)) from error


def _error_line(path: Path, error: Exception) -> str:
    text = one_line(error).replace(f"{path}/", "").replace(str(path), path.name)
    text = text.split(" [tensorstore_spec")[0]
    if isinstance(error, ProblemError):
        return f"{path}: {text}"
    if isinstance(error, MemoryError):
        return f"{path}: needs more memory than there is; read it by parts with open_lazy"
    if isinstance(error, PermissionError):
        return f"{path}: permission denied; change its permissions"
    return f"{path}: damaged or not readable ({text[:200]}); save or copy it again"
