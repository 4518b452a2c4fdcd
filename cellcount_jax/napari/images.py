"""Image layers of an open image: a layer per channel, lazy where the file is large."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
from napari.components import LayerList, ViewerModel
from napari.layers import Image

from cellcount_jax.inference.window_pass import fits_in_memory
from cellcount_jax.io.images import axes
from cellcount_jax.io.images.base import ImageError
from cellcount_jax.io.images.image import LazyImage, open_lazy
from cellcount_jax.io.images.ome_zarr import is_zarr

COLOURS = {1: ("gray",), 2: ("magenta", "green"), 3: ("red", "green", "blue")}

DRAWN = {"cellcount_jax": "drawn"}
"""Metadata of image layers that the plugin draws over an image."""

CHUNK = (1, 1024, 1024)
"""Sides of what is read at once of an image without chunks of its own."""


def scale_of(image: LazyImage) -> tuple[float, ...]:
    """World units per pixel: micrometres if the file says, else 1."""
    return tuple(image.spacing) if image.spacing else (1.0,) * image.ndim


def add_image(viewer: ViewerModel, image: LazyImage) -> list[Any]:
    """Adds the layers of an image, and returns them.

    Colour images are one layer; other channels are layers that add up. A pyramid is shown by its
    levels.
    """
    name, scale = image.path.name, scale_of(image)
    colour = not image.channel_names or image.channel_names[:3] == axes.COLOURS
    if image.shape[-1] in (3, 4) and image.dtype == np.uint8 and colour:
        return [viewer.add_image(_data(image), name=name, scale=scale, rgb=True)]
    n = image.shape[-1]
    names = image.channel_names or [name if n == 1 else f"{name} {i}" for i in range(n)]
    colours = COLOURS.get(n, ("gray",) * n)
    levels = [_data(level) for level in _levels(image)]
    layers = []
    for channel in range(n):
        data = [level[..., channel] for level in levels]
        layers.append(
            viewer.add_image(
                data if len(data) > 1 else data[0],
                name=str(names[channel]),
                scale=scale,
                colormap=colours[channel],
                blending="additive",
                contrast_limits=_limits(data[-1]),
                multiscale=len(data) > 1,
            )
        )
    return layers


def images_to_annotate(layers: LayerList) -> list[Image]:
    """Image layers, the selected one first, without those that the plugin draws itself."""
    given = [layer for layer in layers if isinstance(layer, Image) and layer.metadata != DRAWN]
    return sorted(given, key=lambda layer: layer is not layers.selection.active)


def _levels(image: LazyImage) -> list[LazyImage]:
    """The image and, of a pyramid on the disk, its coarser levels."""
    levels = [image]
    while is_zarr(image.path):
        try:
            levels.append(open_lazy(image.path, level=len(levels)))
        except (ImageError, ValueError):
            break
        if levels[-1].shape[-1] != image.shape[-1] or levels[-1].ndim != image.ndim:
            levels.pop()
            break
    return levels


def _data(image: LazyImage) -> Any:
    """All pixels, or an array of dask that reads them when they are looked at."""
    if fits_in_memory(image):
        return image.read()
    return da.from_array(_Sliced(image), chunks=_chunks(image), asarray=True)


class _Sliced:
    """A lazy image that is indexed as an array is."""

    def __init__(self, image: LazyImage) -> None:
        self.image, self.shape, self.dtype = image, image.shape, image.dtype
        self.ndim = len(image.shape)

    def __getitem__(self, key: tuple[slice | int, ...]) -> np.ndarray:
        slices = [slice(k, k + 1) if isinstance(k, int | np.integer) else k for k in key]
        whole = tuple(slice(None) if isinstance(k, slice) else 0 for k in key)
        return self.image.read(slices)[whole]


def _chunks(image: LazyImage) -> tuple[int, ...]:
    given = image.chunks or (*CHUNK[-image.ndim :], image.shape[-1])
    return tuple(min(c, n) for c, n in zip(given, image.shape, strict=True))


def _limits(data: Any) -> tuple[float, float] | None:
    """Contrast from the coarsest level, or from every n-th pixel of the middle slice."""
    plane = data[data.shape[0] // 2] if data.ndim == 3 else data
    step = max(1, max(plane.shape) // 512)
    values = np.asarray(plane[::step, ::step])
    low, high = (float(v) for v in np.percentile(values, (0.5, 99.8)))
    return (low, high) if high > low else None


def path_of(layer: Any) -> Path | None:
    """File that an image layer was opened from, if there is one."""
    path = getattr(getattr(layer, "source", None), "path", None)
    return Path(path) if path else None


def sides(shape: Sequence[int]) -> str:
    """A shape as text."""
    return " x ".join(map(str, shape))
