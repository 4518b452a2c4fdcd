"""The images of an evaluation that a report shows, with points or maps, each a figure."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from cellcount_jax.evaluation.image import OK, ImageEvaluation
from cellcount_jax.reporting.overlays import displayable, overlay, shortened


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
    """Figures of `examples` by their titles.

    Args:
      images: Records of an evaluation.
      read: Gives the pixels [*space, C] of an image.
    """
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
      images: Records of an evaluation.
      read: Pixels of an image.
      density: Cells per position of its map; None: the count is not a sum.

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
    """An image and a map of it beside each other, equally wide.

    Args:
      image: [H, W, C] or [D, H, W, C]; of a volume the maximum projection is shown.
      density: [h, w] or [d, h, w], cells per position; of a volume the sum along z is shown.
      title: Above both.
    """
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
