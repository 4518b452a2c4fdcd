"""Figures of reports, each a matplotlib figure, and images with their points drawn on them."""

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from cellcount_jax.evaluation import metrics
from cellcount_jax.evaluation.image import OK, ImageEvaluation
from cellcount_jax.inference.readout import Count
from cellcount_jax.io.images.image import Image
from cellcount_jax.io.regions import Region
from cellcount_jax.runtime.path_text import path_text
from cellcount_jax.runtime.replace_file import write_file

matplotlib.use("Agg")

TRUE_COLOUR, FOUND_COLOUR, REGION_COLOUR = "#ffd166", "#ef476f", "#06d6a0"

NEAR_PLANE = 0.02
"""Points within this share of a volume's length of a plane are drawn on it."""


def png(figure: Figure, *, dpi: int = 110) -> bytes:
    """PNG of a figure."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()


def subplot(width: float, height: float) -> tuple[Figure, Any]:
    """A figure of that size in inches with one pair of axes."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def curves(lines: Sequence[Mapping[str, Any]], stage: str) -> Figure:
    """Training loss and validation error of a stage against steps."""
    figure, axes = subplot(5.2, 3.2)
    own = [m for m in lines if m["stage"] == stage]
    train = [(m["step"], m["loss"]) for m in own if m["split"] == "train"]
    axes.plot(*np.transpose(train), color="#118ab2", label="loss")
    axes.set(xlabel="step", ylabel="training loss", title=stage, yscale="log")
    handles = list(axes.lines)
    # Stages that find points are compared by F1 if it was logged.
    for key, colour in (("f1", "#ef476f"), ("mae", "#06a77d")):
        validated = [m for m in own if m["split"] == "validation" and m.get(key) is not None]
        if validated:
            beside = axes.twinx()
            points = [(m["step"], m[key]) for m in validated]
            beside.plot(*np.transpose(points), color=colour, label=f"validation {key}")
            beside.set_ylabel(f"validation {key}", color=colour)
            handles += beside.lines
            break
    axes.legend(handles=handles, loc="upper right", frameon=False)
    return figure


def predicted_against_true(predicted: Sequence[float], true: Sequence[float], unit: str) -> Figure:
    """Scatter plot of counts with the identity line; `unit` is what was counted in."""
    figure, axes = subplot(4.2, 4.0)
    top = 1.05 * max(1.0, float(max(*predicted, *true)))
    axes.plot([0, top], [0, top], color="0.6", linewidth=1, label="identity")
    axes.scatter(true, predicted, s=14, color="#118ab2", alpha=0.8, linewidth=0)
    axes.set(xlim=(0, top), ylim=(0, top), aspect="equal")
    axes.set(xlabel=f"true cells per {unit}", ylabel=f"predicted cells per {unit}")
    axes.legend(frameon=False, loc="upper left")
    return figure


def limits_of_agreement(
    predicted: Sequence[float],
    true: Sequence[float],
    unit: str,
    *,
    names: tuple[str, str] = ("predicted", "true"),
) -> Figure:
    """Bland-Altman plot: difference against mean, with bias and limits of agreement.

    Args:
      predicted: [N] counts.
      true: [N] counts that they are compared with.
      unit: what was counted in.
      names: of the two.
    """
    figure, axes = subplot(5.2, 4.0)
    errors = metrics.count_errors(predicted, true)
    bias = errors["bias"]
    low, high = errors["limits_of_agreement"] or (bias, bias)
    mean, difference = np.add(predicted, true) / 2, np.subtract(predicted, true)
    axes.scatter(mean, difference, s=14, color="#118ab2", alpha=0.8, linewidth=0)
    for level, text in ((bias, "bias"), (low, "-1.96 SD"), (high, "+1.96 SD")):
        style = "-" if text == "bias" else "--"
        axes.axhline(level, color="#ef476f", linewidth=1, linestyle=style)
        place = {"xy": (1, level), "xycoords": ("axes fraction", "data")}
        axes.annotate(f"{text} {level:+.1f}", **place, ha="right", va="bottom", fontsize=8)
    axes.axhline(0, color="0.8", linewidth=1, zorder=0)
    first, second = names
    axes.set(xlabel=f"mean of {first} and {second} cells per {unit}", ylabel=f"{first} - {second}")
    return figure


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
      title: above the image.
      width: of the image in inches.
      spacing: size of a voxel along each axis, for the proportions of the planes of a volume.
      regions: in the plane of the image, whose outlines and names are drawn.
    """
    if image.ndim == 4 and len(image) > 1:
        figure = _volume_overlay(image, found, dots, title, width, spacing)
        _draw_regions(figure.axes[0], regions)
        return figure
    image = image[0] if image.ndim == 4 else image
    height, length = image.shape[:2]
    figure, axes = subplot(width, width * height / length + 0.35)
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


def examples(images: Sequence[ImageEvaluation]) -> dict[str, ImageEvaluation]:
    """The whole images with the least, median and largest error, by these words; none twice."""
    whole = [image for image in images if image.status == OK and not image.roi]
    good = sorted(whole, key=lambda image: abs(image.error or 0.0))
    words: dict[int, str] = {}
    for i, word in ((0, "best"), (len(good) - 1, "worst"), (len(good) // 2, "median")):
        words.setdefault(i, word)
    return {words[i]: good[i] for i in sorted(words)}


def example_overlays(
    images: Sequence[ImageEvaluation], read: Callable[[ImageEvaluation], np.ndarray]
) -> dict[str, Figure]:
    """Figures of `examples` by their titles; `read` gives the pixels of an image."""
    found = {}
    for word, image in examples(images).items():
        title = f"{word}: {shortened(Path(image.name).name)}\n"
        title += f"true {image.true}, predicted {image.predicted:.1f}"
        found[title] = overlay(read(image), image.points, dots=image.dots, title=title, width=3.0)
    return found


def counting_maps(
    images: Sequence[ImageEvaluation],
    read: Callable[[ImageEvaluation], np.ndarray],
    density: Callable[[ImageEvaluation], np.ndarray | None],
) -> dict[str, Figure]:
    """The maps whose sums are the counts, beside the images of `examples`, by their titles.

    Args:
      images: records.
      read: pixels of an image.
      density: cells per position of its map; None: the count is no sum.

    Returns:
      Figures with the true count, the map's sum and, where there are any, the number of points.
    """
    found = {}
    for word, image in examples(images).items():
        map_ = density(image)
        if map_ is None:
            continue
        title = f"{word}: {shortened(Path(image.name).name)}\n"
        title += f"true {image.true}, sum of the map {map_.sum():.1f}"
        title += "" if image.points is None else f", {len(image.points)} points"
        found[title] = beside_map(read(image), map_, title=title)
    return found


def beside_map(image: np.ndarray, density: np.ndarray, *, title: str) -> Figure:
    """An image and a map of it, each as wide as the other; of volumes the maximum and the sum."""
    pixels = image.max(axis=0) if image.ndim == 4 else image
    flat = density.sum(axis=tuple(range(density.ndim - 2)))
    height, length = pixels.shape[:2]
    figure = Figure(figsize=(5.0, 2.4 * height / length + 0.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.imshow(displayable(pixels), interpolation="nearest")
    shown = right.imshow(flat, cmap="viridis", interpolation="nearest", vmin=0, aspect="auto")
    right.set_box_aspect(height / length)
    figure.colorbar(shown, ax=right, shrink=0.8).ax.tick_params(labelsize=7)
    for axes in (left, right):
        axes.set(xticks=[], yticks=[])
    figure.suptitle(title, fontsize=9, parse_math=False)
    return figure


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
        write_file(folder / f"{name}.png", png(figure, dpi=150))

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
