"""Images with points, dots and regions drawn on them, each a matplotlib figure."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from cellcount_jax.inference.count import Count
from cellcount_jax.io.images.image import Image
from cellcount_jax.io.regions import Region
from cellcount_jax.reporting import figures
from cellcount_jax.runtime.path_text import path_text
from cellcount_jax.runtime.replace_file import write_file

TRUE_COLOUR, FOUND_COLOUR, REGION_COLOUR = "#ffd166", "#ef476f", "#06d6a0"

NEAR_PLANE = 0.02
"""Points closer to a plane than this fraction of the volume's length are drawn on it."""


def overlay(
    image: np.ndarray,
    found: np.ndarray | None,
    *,
    dots: np.ndarray | None = None,
    title: str = "",
    width: float = 4.6,
    spacing: Sequence[float] | None = None,
    regions: Sequence[Region] = (),
) -> Figure:
    """An image with predicted points (crosses) and, if they are known, the true dots (rings).

    Of a volume the maximum projection is shown with all points, and beside it the three planes
    through its middle point (of those found, else the dots) with the points near them.

    Args:
      image: [H, W, C] or [D, H, W, C] as read.
      found: [N, ndim] predicted points, or None.
      dots: [N, ndim] true dots, or None.
      title: Above the image.
      width: Width of the image in inches.
      spacing: Size of a voxel along each axis, for the proportions of the planes of a volume.
      regions: Regions in the plane of the image; their outlines and names are drawn.
    """
    if image.ndim == 4 and len(image) > 1:
        figure = _volume_overlay(image, found, dots, title, width, spacing)
        _draw_regions(figure.axes[0], regions)
        return figure
    image = image[0] if image.ndim == 4 else image
    height, length = image.shape[:2]
    figure, axes = figures.subplot(width, width * height / length + 0.35)
    _draw_points(axes, image, (dots, found), (-2, -1), width)
    _draw_regions(axes, regions)
    axes.set_title(title, fontsize=9, parse_math=False)
    return figure


def _volume_overlay(
    image: np.ndarray,
    found: np.ndarray | None,
    dots: np.ndarray | None,
    title: str,
    width: float,
    spacing: Sequence[float] | None,
) -> Figure:
    """The maximum projection, and the planes yx, yz and xz as they meet."""
    shape = np.array(image.shape[:3])
    voxel = np.array(spacing if spacing is not None and len(spacing) == 3 else (1.0, 1.0, 1.0))
    depth, height, length = shape * voxel / voxel[-1]
    inches = width / length
    figure = Figure(
        figsize=(inches * (2 * length + depth) + 0.6, inches * (height + depth) + 0.7),
        layout="constrained",
    )
    grid = figure.add_gridspec(
        2, 3, width_ratios=(length, length, depth), height_ratios=(height, depth)
    )
    at = _middle_point(found, dots, shape)
    near = NEAR_PLANE * length / (voxel / voxel[-1])  # as far along each axis
    views = (
        (grid[0, 0], None, (1, 2), "maximum projection"),
        (grid[0, 1], 0, (1, 2), f"z = {at[0]}"),
        (grid[0, 2], 2, (1, 0), f"x = {at[2]}"),
        (grid[1, 1], 1, (0, 2), f"y = {at[1]}"),
    )
    for place, cut, shown, name in views:
        axes = figure.add_subplot(place)
        plane = image.max(axis=0) if cut is None else image.take(at[cut], axis=cut)
        plane = plane.swapaxes(0, 1) if shown == (1, 0) else plane
        points = [
            p if p is None or cut is None else p[np.abs(p[:, cut] - at[cut]) <= near[cut]]
            for p in (dots, found)
        ]
        _draw_points(axes, plane, points, shown, width, aspect=voxel[shown[0]] / voxel[shown[1]])
        axes.set_title(name, fontsize=8)
    figure.suptitle(title, fontsize=9, parse_math=False)
    return figure


def _middle_point(
    found: np.ndarray | None, dots: np.ndarray | None, shape: np.ndarray
) -> tuple[int, ...]:
    """Voxel of the point nearest to the median of all, the middle of the volume without any."""
    points = next((p for p in (found, dots) if p is not None and len(p)), (shape[None] - 1) / 2)
    distance = np.linalg.norm(points - np.median(points, axis=0), axis=1)
    nearest = np.rint(points[np.argmin(distance)]).astype(int)
    return tuple(np.clip(nearest, 0, shape - 1).tolist())


def _draw_points(
    axes: Any,
    plane: np.ndarray,
    dots_and_found: Sequence[np.ndarray | None],
    shown: tuple[int, int],
    width: float,
    *,
    aspect: float = 1.0,
) -> None:
    """A plane [H, W, C] with rings at dots and crosses at points, by their two axes `shown`."""
    height, length = plane.shape[:2]
    axes.imshow(displayable(plane), interpolation="nearest", aspect=aspect)
    size = float(np.clip(width * 3000 / max(length, 1), 3, 40))
    ring = {"s": size, "facecolors": "none", "edgecolors": TRUE_COLOUR}
    cross = {"s": size * 0.5, "marker": "x", "color": FOUND_COLOUR}
    for points, style in zip(dots_and_found, (ring, cross), strict=True):
        if points is not None and len(points):
            axes.scatter(points[:, shown[1]], points[:, shown[0]], linewidth=0.8, **style)
    axes.set(xlim=(-0.5, length - 0.5), ylim=(height - 0.5, -0.5), xticks=[], yticks=[])


def _draw_regions(axes: Any, regions: Sequence[Region]) -> None:
    """Outlines of regions, each with its name at its upper left."""
    for region in regions:
        (top, left), inside = region.corner, np.pad(region.inside, 1)
        rows, columns = (np.arange(n) - 1 for n in inside.shape)
        axes.contour(
            left + columns, top + rows, inside, levels=[0.5], colors=REGION_COLOUR, linewidths=0.8
        )
        name = shortened(region.name)
        axes.text(left, top, name, fontsize=6, color=REGION_COLOUR, va="top", parse_math=False)


def overlay_writer(folder: Path) -> Callable[[str, Image, Count, Sequence[Region]], None]:
    """A function that writes `folder/<name>.png`, the image with its points, per counted image."""

    def write(name: str, image: Image, found: Count, regions: Sequence[Region]) -> None:
        cells = f"{found.count:.0f}" if float(found.count).is_integer() else f"{found.count:.1f}"
        title = f"{shortened(name)}\n{cells} cells"
        if found.points is not None and len(found.points) != found.count:
            title += f" (publish this count; {len(found.points)} points show where)"
        figure = overlay(
            image.pixels, found.points, title=title, spacing=image.spacing, regions=regions
        )
        write_file(folder / f"{name}.png", figures.png(figure, dpi=150))

    return write


def shortened(name: str, most: int = 36) -> str:
    """A name that fits above an image: the middle of a long one is replaced by dots."""
    name = path_text(name)
    return name if len(name) <= most else f"{name[: most // 2 - 1]}...{name[-(most // 2 - 2) :]}"


def displayable(image: np.ndarray) -> np.ndarray:
    """Any image as [H, W, 3] in 0..1: RGB bytes unchanged, others rescaled by percentiles."""
    image = image[..., :3] if image.shape[-1] >= 3 else image[..., :1]
    if image.dtype == np.uint8 and image.shape[-1] == 3:
        return image / 255.0
    low, high = np.nanpercentile(image, (0.5, 99.8))
    scaled = np.clip((image.astype(np.float32) - low) / max(high - low, 1e-6), 0, 1)
    return np.repeat(scaled, 3, axis=-1) if scaled.shape[-1] == 1 else scaled
