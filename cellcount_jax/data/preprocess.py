"""Turns a file's pixels into a network's input: intensity range, channels, mean and std.

The intensity range is computed once from the whole image and then applied to any part of it, so a
tile gets exactly the values that it has in the whole image.
"""

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple

import numpy as np

from cellcount_jax.io.images.readable import Readable, sample_grid

CLIP_RANGES = 4.0
"""Intensities are clipped this many ranges below the low and above the high end."""

MIN_RELATIVE_STD = 0.1
"""Least deviation of a channel, as a share of the largest, in `with_measured_range`."""

_ROUNDING = 1e-3
_METHODS = ("dtype", "percentile", "minmax")


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """How pixels become a network's input.

    Attributes:
      channels: Number of channels of the network. One channel is repeated, two become three with an
        empty third, three become one by their mean; any other difference is an error.
      normalise: `dtype` divides 8- and 16-bit integers by the maximum of their type and keeps
        floats in [0, 1]; `percentile` maps the `low` and `high` percentile of the whole image to
        0 and 1; `minmax` its minimum and maximum.
      low: Lower percentile, in percent.
      high: Upper percentile, in percent.
      mean: Then subtracted; one number, or one per channel.
      std: Then divided by; one number, or one per channel.
    """

    channels: int = 3
    normalise: Literal["dtype", "percentile", "minmax"] = "dtype"
    low: float = 1.0
    high: float = 99.8
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        if not isinstance(self.channels, int) or self.channels < 1:
            raise ValueError(f"preprocessing: channels={self.channels!r} must be 1 or more")
        for name in ("mean", "std"):
            values = tuple(float(v) for v in np.ravel(getattr(self, name)))
            object.__setattr__(self, name, values)
            if len(values) not in (1, self.channels) or not all(map(math.isfinite, values)):
                raise ValueError(
                    f"preprocessing: {name}={values} must be one number or {self.channels}, "
                    "one per channel"
                )
        if self.normalise not in _METHODS:
            raise ValueError(
                f"preprocessing: normalise={self.normalise!r} must be one of {_METHODS}"
            )
        if not 0 <= self.low < self.high <= 100:
            raise ValueError(
                f"preprocessing: percentiles low={self.low}, high={self.high} must be in order "
                "between 0 and 100"
            )
        if min(self.std) <= 0:
            raise ValueError(f"preprocessing: std={self.std} must be greater than 0")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, read back by `from_dict`."""
        return {**dataclasses.asdict(self), "mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "Preprocessing":
        """From the fields of `to_dict`; missing fields keep their defaults.

        Raises:
          ValueError: An unknown field, or a value out of range.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        unknown = sorted(set(fields) - known)
        if unknown:
            raise ValueError(
                f"preprocessing: unknown fields {unknown}; choose from {sorted(known)}"
            )
        return cls(**fields)


def with_measured_range(
    preprocessing: Preprocessing, images: Iterable[np.ndarray]
) -> Preprocessing:
    """The same with the mean and standard deviation of each channel over all pixels of images.

    A channel that hardly varies is divided by `MIN_RELATIVE_STD` of the largest deviation: all of
    it may be noise.

    Args:
      preprocessing: Its own mean and deviation are not used.
      images: Training images [*space, C] as read from files.

    Raises:
      ValueError: There are no images, or they cannot be preprocessed.
    """
    plain = dataclasses.replace(preprocessing, mean=(0.0,), std=(1.0,))
    sums = np.zeros((3, preprocessing.channels))  # pixels, values, squares
    for image in images:
        values = preprocess(image, plain).reshape(-1, preprocessing.channels).astype(np.float64)
        sums += np.stack([np.full(values.shape[1], len(values)), values.sum(0), (values**2).sum(0)])
    if not sums[0].all():
        raise ValueError("no training images to measure intensities on")
    mean = sums[1] / sums[0]
    std = np.sqrt(np.maximum(sums[2] / sums[0] - mean**2, 0.0))
    std = np.maximum(std, max(MIN_RELATIVE_STD * float(std.max()), 1e-6))
    return dataclasses.replace(
        preprocessing,
        mean=tuple(round(float(m), 6) for m in mean),
        std=tuple(round(float(s), 6) for s in std),
    )


class IntensityRange(NamedTuple):
    """Intensities that become 0 and 1, in the units of the file."""

    low: float
    high: float


def preprocess(pixels: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    """Preprocesses a whole image.

    Args:
      pixels: [H, W, C] or [D, H, W, C], the file's own dtype.
      preprocessing: The network's.

    Returns:
      [*space, channels] float32, finite.

    Raises:
      ValueError: Pixels that are not finite, a dtype or number of channels that does not fit.
    """
    return apply(pixels, preprocessing, intensity_range(pixels, preprocessing))


def intensity_range(image: np.ndarray | Readable, preprocessing: Preprocessing) -> IntensityRange:
    """Intensities of the whole image that become 0 and 1.

    Above `readable.SAMPLE_LIMIT` values they are computed on a regular grid over the image, the
    same whether the image is in memory or read by parts. If both percentiles coincide (a few cells
    on an empty background), minimum and maximum are used instead. All channels share one range.

    Args:
      image: [*space, C], an array or an image that is read by parts.
      preprocessing: The network's.

    Returns:
      (low, high) in the units of the image; equal for a constant image.

    Raises:
      ValueError: Pixels that are not finite, or a dtype that does not fit.
    """
    if preprocessing.normalise == "dtype":
        return IntensityRange(0.0, _full_scale(image.dtype))
    _check_dtype(image.dtype)
    grid = sample_grid(image.shape)
    sample = image[grid] if isinstance(image, np.ndarray) else image.read(grid)
    check_finite(sample)
    sample = sample.astype(np.uint8) if sample.dtype == bool else sample
    low, high = float(sample.min()), float(sample.max())
    if preprocessing.normalise == "percentile":
        if sample.dtype == np.float16:
            sample = sample.astype(np.float32)
        ends = np.percentile(sample, (preprocessing.low, preprocessing.high))
        if ends[0] < ends[1]:
            low, high = float(ends[0]), float(ends[1])
    if not math.isfinite(high - low):
        raise ValueError(
            f"pixels from {low:.6g} to {high:.6g} are not valid intensities; check the file"
        )
    return IntensityRange(low, high)


def apply(
    pixels: np.ndarray, preprocessing: Preprocessing, range_: tuple[float, float]
) -> np.ndarray:
    """Preprocesses an image, or any part of one, with the whole image's range.

    Every value depends only on its own pixel: a part of the result is the result of the part.

    Args:
      pixels: [H, W, C] or [D, H, W, C], the file's own dtype.
      preprocessing: The network's.
      range_: Range of the whole image, from `intensity_range`.

    Returns:
      [*space, channels] float32. Before mean and std, `percentile` and `minmax` values are
      clipped to [-4, 5]; a constant image is 0.

    Raises:
      ValueError: Pixels that are not finite, a dtype or number of channels that does not fit.
    """
    if pixels.ndim not in (3, 4) or 0 in pixels.shape:
        raise ValueError(
            f"an image of shape {pixels.shape} must be [H, W, C] or [D, H, W, C] with pixels in it"
        )
    _check_dtype(pixels.dtype)
    check_finite(pixels)
    if preprocessing.normalise == "dtype":
        scaled = _by_dtype(pixels)
    else:
        scaled = _by_range(pixels, *range_)
    adapted = adapt_channels(scaled, preprocessing.channels)
    if preprocessing.mean != (0.0,) or preprocessing.std != (1.0,):
        mean = np.asarray(preprocessing.mean, np.float32)
        std = np.asarray(preprocessing.std, np.float32)
        adapted = (adapted - mean) / std
    return np.ascontiguousarray(adapted, np.float32)


def check_finite(pixels: np.ndarray) -> None:
    """Raises ValueError if pixels are NaN or infinite, with their number."""
    if pixels.dtype.kind != "f":
        return
    wrong = pixels.size - int(np.count_nonzero(np.isfinite(pixels)))
    if wrong:
        raise ValueError(
            f"{wrong} of {pixels.size} values are not finite (NaN or infinite); replace them in "
            "the file, for example by 0"
        )


def adapt_channels(pixels: np.ndarray, channels: int) -> np.ndarray:
    """Converts [*space, C] to the network's number of channels.

    Raises:
      ValueError: No conversion between these numbers of channels.
    """
    given = pixels.shape[-1]
    if given == channels:
        return pixels
    if given == 1:
        return np.repeat(pixels, channels, axis=-1)
    if (given, channels) == (2, 3):
        return np.concatenate([pixels, np.zeros_like(pixels[..., :1])], axis=-1)
    if (given, channels) == (3, 1):
        # In a fixed order whatever the memory layout, so that parts equal parts of the whole.
        return (pixels[..., :1] + pixels[..., 1:2] + pixels[..., 2:]) / np.float32(3)
    raise ValueError(
        f"the image has {given} channels and the model takes {channels}; choose with "
        "--channels, by number (the first is 0) or name"
    )


def _check_dtype(dtype: np.dtype) -> None:
    if dtype.kind not in "buif":
        raise ValueError(f"pixels of type {dtype} are not intensities; save integers or floats")


def _full_scale(dtype: np.dtype) -> float:
    """Divisor of `dtype` normalisation."""
    _check_dtype(dtype)
    if dtype.kind in "bf":
        return 1.0
    if dtype.itemsize > 2:
        raise ValueError(
            f"pixels of type {dtype} use a small part of their range, so dividing by its maximum "
            'makes them black; use normalise="percentile" or save 8 or 16 bits'
        )
    return float(np.iinfo(dtype).max)


def _by_dtype(pixels: np.ndarray) -> np.ndarray:
    scale = _full_scale(pixels.dtype)
    if pixels.dtype.kind == "f":
        low, high = float(pixels.min()), float(pixels.max())
        if low < -_ROUNDING or high > 1 + _ROUNDING:
            raise ValueError(
                f"floating-point pixels from {low:.6g} to {high:.6g} lie outside [0, 1]; use "
                'normalise="percentile" or save them between 0 and 1'
            )
    return pixels.astype(np.float32) / np.float32(scale)


def _by_range(pixels: np.ndarray, low: float, high: float) -> np.ndarray:
    if not low < high:
        return np.zeros(pixels.shape, np.float32)
    with np.errstate(over="ignore"):  # of a tiny range; values are clipped below
        if pixels.dtype.itemsize <= 2:
            scaled = (pixels.astype(np.float32) - np.float32(low)) / np.float32(high - low)
        else:  # differences of wider types would lose digits in 32 bits
            scaled = (pixels.astype(np.float64) - low) / (high - low)
    return np.clip(scaled, -CLIP_RANGES, 1 + CLIP_RANGES).astype(np.float32, copy=False)
