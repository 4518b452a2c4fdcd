"""Images that are read by parts, and the regular grid on which a large one is sampled."""

import math
from typing import Protocol

import numpy as np

SAMPLE_LIMIT = 4_000_000
"""Most values, on a regular grid, from which statistics of a whole image are computed."""


class Readable(Protocol):
    """An image that is read by parts, such as `io.images.image.LazyImage`."""

    @property
    def shape(self) -> tuple[int, ...]:
        """[*space, C]."""
        ...

    @property
    def dtype(self) -> np.dtype:
        """Data type of the stored values."""
        ...

    def read(self, slices: tuple[slice, ...]) -> np.ndarray:
        """Values of a part; slices may have steps."""
        ...


def sample_grid(shape: tuple[int, ...]) -> tuple[slice, ...]:
    """Steps over the space axes of [*space, C] that leave at most `SAMPLE_LIMIT` values."""
    space, channels = shape[:-1], shape[-1]
    step = 1
    while channels * math.prod(-(-n // step) for n in space) > SAMPLE_LIMIT:
        step += 1
    return (*(slice(0, n, step) for n in space), slice(0, channels, 1))
