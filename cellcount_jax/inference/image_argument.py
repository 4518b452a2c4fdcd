"""Images that `Counter.count` takes: arrays with axes in any order, whole or read in parts."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

DEFAULT_AXES = {2: "YX", 3: "YXC", 4: "ZYXC"}
"""Default axes of an array, by their number."""


@dataclasses.dataclass(frozen=True, eq=False)
class ArrayReader:
    """A large array of zarr, dask or the like as an image that is read in parts.

    Attributes:
      array: Array with `shape` and `dtype` that is sliced like a NumPy array.
      channel_axis: Index of the channel axis; None if there is none.
    """

    array: Any
    channel_axis: int | None

    @property
    def shape(self) -> tuple[int, ...]:
        """[*space, C]."""
        shape = list(self.array.shape)
        channels = 1 if self.channel_axis is None else shape.pop(self.channel_axis)
        return (*shape, channels)

    @property
    def dtype(self) -> np.dtype:
        """Data type of the array."""
        return np.dtype(self.array.dtype)

    def read(self, slices: Sequence[slice] = ()) -> np.ndarray:
        """Reads a part [*space, C]; axes of `shape` without a slice are read whole."""
        *space, channels = (*slices, *[slice(None)] * (len(self.shape) - len(slices)))
        if self.channel_axis is None:
            return np.asarray(self.array[tuple(space)])[..., None][..., channels]
        space.insert(self.channel_axis, channels)
        return np.moveaxis(np.asarray(self.array[tuple(space)]), self.channel_axis, -1)


def to_image(array: Any, axes: str | None) -> np.ndarray | ArrayReader:
    """Converts an array to an image [*space, C].

    Args:
      array: NumPy, zarr, dask or similar array; all but NumPy's are read later.
      axes: A letter of "ZYXC" per axis; default: [H, W], [H, W, C] or [D, H, W, C].

    Raises:
      TypeError: Not an array.
      ValueError: The axes do not fit the array.
    """
    if not all(hasattr(array, name) for name in ("shape", "dtype", "__getitem__")):
        raise TypeError(
            "an image must be a path or an array (NumPy, zarr, dask), not "
            f"{type(array).__module__}.{type(array).__qualname__}"
        )
    shape = tuple(array.shape)
    named = axes if axes is not None else DEFAULT_AXES.get(len(shape), "")
    space = named.replace("C", "", 1)
    if len(named) != len(shape) or space not in ("YX", "ZYX"):
        given = "" if axes is None else f"axes={axes!r} does not fit: "
        raise ValueError(
            f"{given}an image of shape {shape} must be [H, W], [H, W, C] or [D, H, W, C], or have "
            "a letter of ZYXC in axes for each of its axes"
        )
    if 0 in shape:
        raise ValueError(f"an image of shape {shape} has no pixels")
    channel_axis = named.index("C") if "C" in named else None
    reader = ArrayReader(array, channel_axis)
    return reader.read() if isinstance(array, np.ndarray) else reader
