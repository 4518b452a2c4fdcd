"""Images that are read by parts, and the regular grid on which a large one is sampled."""

import dataclasses
import math
from collections.abc import Callable, Sequence
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


@dataclasses.dataclass(frozen=True)
class Adapted:
    """An image read in part or with changed values.

    Attributes:
      image: Image as given.
      shape: Shape [*space, C] after the change.
      dtype: Data type after the change.
      change: Maps a part [*part, C] of all channels to the changed values.
    """

    image: Readable
    shape: tuple[int, ...]
    dtype: np.dtype
    change: Callable[[np.ndarray], np.ndarray]

    def read(self, slices: Sequence[slice] = ()) -> np.ndarray:
        """Values of a part; axes without a slice are read whole."""
        *space, channels = (*slices, *[slice(None)] * (len(self.shape) - len(slices)))
        whole = slice(0, self.image.shape[-1])
        return self.change(self.image.read((*space, whole)))[..., channels]


def sample_grid(shape: tuple[int, ...]) -> tuple[slice, ...]:
    """Steps over the space axes of [*space, C] that leave at most `SAMPLE_LIMIT` values."""
    space, channels = shape[:-1], shape[-1]
    step = 1
    while channels * math.prod(-(-n // step) for n in space) > SAMPLE_LIMIT:
        step += 1
    return (*(slice(0, n, step) for n in space), slice(0, channels, 1))
