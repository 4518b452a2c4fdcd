"""Pixel values that are not measurements: hot pixels, salt noise and fill values of stitched
images.

A single pixel of 65535 looks like a cell to a counter, and a filled corner sets the intensity range
of the whole image, so both are replaced before the range is measured: always in inference, and in
training on a lab's folder (benchmarks keep their pixels).
"""

import dataclasses
import itertools
import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import ndimage

from cellcount_jax.io.images.readable import Readable, sample_grid

log = logging.getLogger(__name__)

MIN_FILL = 0.02
"""Fraction of an image above which an extreme value may be a fill value."""

AT_BORDER = 0.9
"""Least fraction of a fill's pixels in regions that touch the border of the image."""

GAP = 0.1
"""Least gap between a fill value and all others, as a fraction of the intensity range."""

MAX_BACKGROUND = 1 / 3
"""The median of an image with a dark background is below this fraction of its range."""

ISOLATED = 5.0
"""A hot pixel exceeds its neighbours by this many times their height above the background; the
narrowest point-spread function of a microscope, sigma 0.6 pixels, reaches 3."""

MIN_HEIGHT = {"deviations": 20.0, "levels": 16.0}
"""Least height of hot pixels: in robust standard deviations, and in integer levels; they must also
exceed anything bright that spans several pixels."""

MIN_GAP = 5
"""Least gap between a fill value and all others, in integer levels."""

MAX_SAMPLED_VALUES = 200_000
"""Maximum number of values from which median and percentiles are computed."""

CHUNK = 1_000_000


@dataclasses.dataclass(frozen=True)
class Levels:
    """What is replaced in an image.

    Attributes:
      fills: Fill values of each channel.
      median: Median [C] of all other values, which replaces them.
      height: Height [C] above the median from which a pixel may be hot.
    """

    fills: tuple[tuple[float, ...], ...]
    median: np.ndarray
    height: np.ndarray


@dataclasses.dataclass(frozen=True)
class WithoutOutliers:
    """An image read in parts, with hot pixels and fills replaced.

    If a part is read with steps, only fills are replaced.
    """

    image: Readable
    levels: Levels

    @property
    def shape(self) -> tuple[int, ...]:
        """[*space, C]."""
        return tuple(self.image.shape)

    @property
    def dtype(self) -> np.dtype:
        """Data type of the stored values."""
        return self.image.dtype

    def read(self, slices: Sequence[slice] = ()) -> np.ndarray:
        """Values of a part; axes without a slice are read whole."""
        full = (*slices, *[slice(None)] * (len(self.shape) - len(slices)))
        wanted = [range(*s.indices(n)) for s, n in zip(full, self.shape, strict=True)]
        *planes, y, x, channels = wanted
        halo = int(all(axis.step == 1 for axis in (y, x)))
        starts = [max(0, axis.start - halo) for axis in (y, x)]
        around = [
            slice(start, min(n, axis.stop + halo), axis.step)
            for start, axis, n in zip(starts, (y, x), self.shape[-3:-1], strict=True)
        ]
        whole = slice(0, self.shape[-1], 1)
        read = self.image.read((*(slice(a.start, a.stop, a.step) for a in planes), *around, whole))
        found = _replaced(read, self.levels, hot=bool(halo))[0]
        rows, columns = (
            slice(a.start - start, a.start - start + (len(a) if halo else n))
            for a, start, n in zip((y, x), starts, found.shape[-3:-1], strict=True)
        )
        return found[..., rows, columns, slice(channels.start, channels.stop, channels.step)]


def replace_outliers(image: Any, name: str = "") -> tuple[Any, np.ndarray]:
    """The image without hot pixels and fills, and a sample of it; the log says what was replaced.

    Hot pixels take the median of their eight neighbours, fills that of the image.

    Args:
      image: Image [*space, C], an array or read in parts.
      name: Name of its file, for the log.

    Returns:
      The image (the same object if nothing is replaced) and its values on `sample_grid`.
    """
    is_array = isinstance(image, np.ndarray)
    grid = sample_grid(tuple(image.shape))
    view = image[grid] if is_array else image.read(grid)
    if view.dtype.kind not in "uif" or not view.size or not np.isfinite(view).all():
        return image, view
    levels = _levels(view)
    prefix = f"{name}: " if name else ""
    for value in sorted({value for fills in levels.fills for value in fills}):
        log.warning(
            "%s%.0f %% of its values are %g, which fills the border of the image; counted as "
            "background",
            *(prefix, 100 * float(np.mean(view == value)), value),
        )
    if not is_array and view.shape != tuple(image.shape):
        return WithoutOutliers(image, levels), _replaced(view, levels, hot=False)[0]
    whole = image if is_array else view
    found, n_hot = _replaced(whole, levels, hot=True)
    if n_hot:
        log.warning(
            "%shot pixels or salt noise (%d), far brighter than all around, replaced by the value "
            "of their neighbours",
            *(prefix, n_hot),
        )
    if found is whole:
        return image, view
    return (found, found[grid]) if is_array else (WithoutOutliers(image, levels), found)


def _levels(view: np.ndarray) -> Levels:
    fills, medians, heights = [], [], []
    for channel in range(view.shape[-1]):
        values = view[..., channel]
        found = tuple(v for v in _extremes(values) if _is_fill(values, v))
        rest = values[~np.isin(values, found)] if found else values.ravel()
        rest = rest[:: -(-rest.size // MAX_SAMPLED_VALUES) or 1].astype(np.float64)
        median = float(np.median(rest)) if rest.size else 0.0
        spread = 1.4826 * float(np.median(np.abs(rest - median))) if rest.size else 0.0
        height = MIN_HEIGHT["deviations"] * spread
        if view.dtype.kind in "ui":
            height = max(height, MIN_HEIGHT["levels"])
        bright = np.nonzero((values > median + height) & ~np.isin(values, found))
        bright = tuple(axis[:: -(-len(axis) // MAX_SAMPLED_VALUES) or 1] for axis in bright)
        if len(bright[0]):
            third = _neighbours(values[..., None], (*bright, np.zeros_like(bright[0])))[-3]
            height = max(height, float(np.percentile(third, 99.9)) - median)
        fills.append(found)
        medians.append(median)
        heights.append(height)
    return Levels(tuple(fills), np.array(medians), np.array(heights))


def _extremes(values: np.ndarray) -> tuple[float, ...]:
    """The usual fill values of programs that are extremes of the image."""
    low, high = float(values.min()), float(values.max())
    top = float(np.iinfo(values.dtype).max) if values.dtype.kind in "ui" else high
    return (*((low,) if low == 0 else ()), *((high,) if high == top > low else ()))


def _is_fill(values: np.ndarray, value: float) -> bool:
    """Whether an extreme value of an image [*space] is a fill value."""
    is_value = values == value
    if not MIN_FILL < is_value.mean() < 1 - MIN_FILL:
        return False
    rest = values[~is_value].astype(np.float64)
    low, median, bright, high = np.percentile(rest, (0.01, 50, 99.8, 99.99))
    min_gap = MIN_GAP if values.dtype.kind in "ui" else 0
    if not low < high:
        return False
    if value > median and high > median + (1 - GAP) * (value - median):
        return False
    # If the background was set to 0, only cells are left, and their median is bright.
    if value < median and (
        low - value < max(GAP / 2 * (bright - low), min_gap)
        or median - low > MAX_BACKGROUND * (bright - low)
    ):
        return False
    labels, n = ndimage.label(is_value)
    edges = np.zeros(n + 1, bool)
    for side in (labels[..., 0, :], labels[..., -1, :], labels[..., 0], labels[..., -1]):
        edges[np.unique(side)] = True
    edges[0] = False
    return bool(edges[labels].sum() >= AT_BORDER * is_value.sum())


def _replaced(values: np.ndarray, levels: Levels, *, hot: bool) -> tuple[np.ndarray, int]:
    """Values [*space, C] with fills and, if asked for, hot pixels replaced; number of the latter.

    The array itself is returned where there are none.
    """
    result = values
    if any(levels.fills):
        result = values.copy()
        for channel, fills in enumerate(levels.fills):
            for value in fills:
                part = result[..., channel]
                part[part == value] = np.asarray(levels.median[channel]).astype(values.dtype)
    if not hot:
        return result, 0
    at = np.nonzero(result > levels.median + levels.height)
    chunks = [
        _hot(result, tuple(a[i : i + CHUNK] for a in at), levels)
        for i in range(0, len(at[0]), CHUNK)
    ]
    is_hot = np.concatenate([np.zeros(0, bool), *(c[0] for c in chunks)])
    if is_hot.any():
        near = np.concatenate([c[1] for c in chunks])
        result = result.copy() if result is values else result
        result[tuple(axis[is_hot] for axis in at)] = near[is_hot].astype(values.dtype)
    return result, int(is_hot.sum())


def _hot(
    values: np.ndarray, place: tuple[np.ndarray, ...], levels: Levels
) -> tuple[np.ndarray, np.ndarray]:
    """The isolated bright pixels, and the median of each one's neighbours."""
    ordered, channel = _neighbours(values, place), place[-1]
    third = ordered[-3]  # two neighbours may be hot themselves
    above = values[place] - third
    far = ISOLATED * np.abs(third - levels.median[channel])
    is_hot = above > np.maximum(levels.height[channel], far)
    return is_hot, (ordered[3] + ordered[4]) / 2


def _neighbours(values: np.ndarray, place: tuple[np.ndarray, ...]) -> np.ndarray:
    """The 8 in-plane neighbours of pixels of an image [*space, C], sorted, [8, N]."""
    *planes, y, x, channel = place
    height, width = values.shape[-3:-1]
    around = [
        values[(*planes, _mirrored(y + dy, height), _mirrored(x + dx, width), channel)]
        for dy, dx in itertools.product((-1, 0, 1), repeat=2)
        if dy or dx
    ]
    return np.sort(np.asarray(around, np.float64), axis=0)


def _mirrored(index: np.ndarray, n: int) -> np.ndarray:
    """Indices one beyond the ends of an axis, mirrored at its first and last pixel."""
    return np.clip(np.where(index < 0, 1, np.where(index >= n, n - 2, index)), 0, n - 1)
