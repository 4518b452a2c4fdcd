"""Counts one file, in memory or window by window, and writes its points and density."""

import dataclasses
import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cellcount_jax.data.resize import Scale
from cellcount_jax.inference.count import Count
from cellcount_jax.inference.counter import Counter
from cellcount_jax.inference.readout import OpenDensity, TakeDensity
from cellcount_jax.inference.region_counts import cells_per_mm
from cellcount_jax.inference.window_pass import OnWindow, fits_in_memory
from cellcount_jax.io.images.axes import chosen_spacing
from cellcount_jax.io.images.image import Image, LazyImage, open_lazy
from cellcount_jax.io.regions import Region, regions_of
from cellcount_jax.prediction import writers
from cellcount_jax.prediction.counts_csv import CsvRow
from cellcount_jax.prediction.options import Options
from cellcount_jax.prediction.parts import Part
from cellcount_jax.prediction.region_rows import RegionRows
from cellcount_jax.runtime.path_text import path_text

log = logging.getLogger(__name__)

MAX_COMPRESSION_RATIO = 4000
"""Largest ratio of declared to stored bytes of a large image; above it the image is refused."""

MAX_RATIO_OF_COUNTS = 1.5
"""A remark is made if count and number of points differ by more."""

OVERVIEW_SIDE = 2048
"""Longest side of the drawing of an image that is counted window by window."""


class Outputs(NamedTuple):
    """Where the outputs of a file go: the folder of the call, and their name in it."""

    folder: Path
    name: str


def count_file(
    counter: Counter,
    path: Path,
    outputs: Outputs,
    options: Options,
    *,
    on_window: OnWindow,
    part: Part = Part(),  # noqa: B008
) -> list[CsvRow]:
    """Counts one file and writes its points and density.

    Args:
      counter: Trained counter.
      path: The file.
      outputs: Where points and density go.
      options: Options of the call.
      part: Which of the file's images.
      on_window: Called for large images with the number of windows done and their total.

    Returns:
      The image's row, then one per region, with the columns known from the file.

    Raises:
      ValueError: The image cannot be read or does not fit the network.
    """
    channels = None if options.channels is None else list(options.channels)
    with open_lazy(
        path, axes=options.axes, channels=channels, scene=part.scene, index=part.position
    ) as image:
        spacing = chosen_spacing(image, options.voxel_size)
        regions = None
        if options.regions is not None:
            shape = image.space_shape
            regions = RegionRows(regions_of(options.regions, path, shape), shape)
        _check_content(image)
        openers: list[OpenDensity] = [] if regions is None else [regions.open_density]
        if options.density:
            openers.append(_density_writer(image, outputs, spacing))
        found = counter.count_open(
            image, spacing=spacing, on_window=on_window, open_density=openers
        )
        _write_maps_and_points(found, image, outputs, options, spacing)
        if options.on_counted is not None:
            shown = _overview(image, spacing)
            drawn = [] if regions is None else _shown_regions(regions.regions, image, shown)
            options.on_counted(outputs.name, shown, _shown_count(found, image, shown), drawn)
        _warn_of_disagreement(path, found)
        row = _columns(image.space_shape, spacing, found) | {"status": "ok"}
        row |= _diameter(counter, options, found, spacing)
        return [row] if regions is None else regions.rows(row, found)


def _diameter(
    counter: Counter, options: Options, found: Count, spacing: Sequence[float] | None
) -> CsvRow:
    """Cell diameter in this image, for models that resize cells to one size; else empty."""
    pixels = options.diameter
    if counter.resampling.cell_diameter is not None:
        pixels = counter.resampling.cell_diameter / float(np.ravel(found.scale)[-1])
    if pixels is None:
        return {}
    row: CsvRow = {"diameter_px": round(pixels, 1)}
    return row | ({"diameter_um": round(pixels * spacing[-1], 2)} if spacing else {})


def _write_maps_and_points(
    found: Count,
    image: LazyImage,
    outputs: Outputs,
    options: Options,
    spacing: tuple[float, ...] | None,
) -> None:
    """Writes what the count holds in memory; a window pass has written its density already."""
    if options.density and found.density is not None:
        each = _density_spacing(image.space_shape, found.density.shape, spacing)
        target = outputs.folder / "density" / f"{outputs.name}.ome.tif"
        writers.write_density(target, found.density, each)
    if found.points is not None and found.scores is not None:
        writers.write_points(
            writers.points_path(*outputs, options.points_style),
            found.points,
            found.scores,
            style=options.points_style,
            spacing=spacing,
            image_name=path_text(image.path.name),
        )


def _warn_of_disagreement(path: Path, found: Count) -> None:
    if found.points is not None and _disagree(found.count, len(found.points)):
        log.warning(
            "%s: the count (%.1f) and the number of points (%d) disagree: look at the points "
            "before using either",
            *(path_text(path), found.count, len(found.points)),
        )


def _disagree(count: float, n_points: int) -> bool:
    """Whether two counts of one image differ by more than half, and by more than chance."""
    low, high = sorted((max(count, 0.0), float(n_points)))
    return high > MAX_RATIO_OF_COUNTS * low and high - low > 3


def _density_writer(
    image: LazyImage, outputs: Outputs, spacing: Sequence[float] | None
) -> OpenDensity:
    path = outputs.folder / "density" / f"{outputs.name}.ome.zarr"

    def open_density(shape: tuple[int, ...], scale: Scale) -> TakeDensity:
        each = _density_spacing(image.space_shape, shape, spacing)
        return writers.open_density_zarr(path, shape, each)

    return open_density


def _check_content(image: LazyImage) -> None:
    """Refuses an image that declares a huge size but holds next to nothing."""
    if fits_in_memory(image):
        return
    declared = math.prod(image.shape) * image.dtype.itemsize
    held, files = 0, [image.path]
    if image.path.is_dir():
        files = [p for p in image.path.rglob("*") if p.is_file()]
    for file in files:
        held += file.stat().st_size
        if held * MAX_COMPRESSION_RATIO > declared:
            return
    raise ValueError(
        f"declares {declared / 2**30:.3g} GiB of pixels and holds {held} bytes; it is damaged, or "
        "most of it is missing"
    )


def _density_spacing(
    space: Sequence[int], shape: Sequence[int], spacing: Sequence[float] | None
) -> tuple[float, ...] | None:
    """Micrometres per value of a density of shape `shape`."""
    if spacing is None or len(spacing) != len(space):
        return None
    return tuple(s * n / m for s, n, m in zip(spacing, space, shape, strict=True))


def _overview(image: LazyImage, spacing: tuple[float, ...] | None) -> Image:
    """The image to draw on: every n-th pixel of a large image; the middle plane of a volume."""
    if fits_in_memory(image):
        return Image(image.read(), spacing, image.channel_names, image.path)
    step = _overview_step(image)
    plane = [slice(n // 2, n // 2 + 1) for n in image.space_shape[:-2]]
    pixels = image.read([*plane, slice(None, None, step), slice(None, None, step)])
    return Image(pixels, None, image.channel_names, image.path)


def _overview_step(image: LazyImage) -> int:
    return -(-max(image.space_shape[-2:]) // OVERVIEW_SIDE)


def _shown_count(found: Count, image: LazyImage, shown: Image) -> Count:
    """The count with its points in pixels of the drawn image."""
    if found.points is None or shown.space_shape == image.space_shape:
        return found
    points = found.points.copy()
    points[:, -2:] /= _overview_step(image)
    if image.ndim == 3:
        points = points[np.abs(points[:, 0] - image.shape[0] // 2) <= 1]
        points[:, 0] = 0
    return dataclasses.replace(found, points=points)


def _shown_regions(regions: Sequence[Region], image: LazyImage, shown: Image) -> list[Region]:
    """The regions in the plane of the drawn image."""
    step = 1 if shown.space_shape == image.space_shape else _overview_step(image)
    found = []
    for region in regions:
        inside: np.ndarray = region.inside
        inside = np.logical_or.reduce(inside) if inside.ndim == 3 else inside
        corner = tuple(side // step for side in region.corner[-2:])
        found.append(Region(region.name, corner, inside[::step, ::step]))
    return found


def _columns(space: Sequence[int], spacing: Sequence[float] | None, found: Count) -> CsvRow:
    """Columns of one image: count, sizes, and density per mm2 or mm3 if the pixel size is known."""
    row: CsvRow = {
        "count": round(found.count, 3),
        "n_points": "" if found.points is None else len(found.points),
        "density_sum": "" if found.density_sum is None else round(found.density_sum, 3),
        "height": space[-2],
        "width": space[-1],
        "depth": space[0] if len(space) == 3 else "",
        "area_px": space[-2] * space[-1],
    }
    known = tuple(spacing or ())
    for axis, size in zip(("spacing_x", "spacing_y", "spacing_z"), known[::-1], strict=False):
        row[axis] = size
    if len(known) == len(space):
        row |= cells_per_mm(found.count, math.prod(space), known)
    return row
