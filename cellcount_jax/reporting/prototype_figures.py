"""Figures of prototypes and of what they respond to, each a matplotlib figure."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from cellcount_jax.data.preprocess import Preprocessing
from cellcount_jax.explanation.prototypes import Explanation
from cellcount_jax.methods.base import Prototypes
from cellcount_jax.reporting import overlays

CELL_COLOUR, BACKGROUND_COLOUR = "#08b37f", "#f08c00"
"""Distinguishable on dark fluorescence, on stained tissue and on a white page."""

MARKERS = "^sDovP*X"

NAME_LENGTH = 12
"""Last letters of a training image's name that fit above a patch."""


def gallery(
    prototypes: Prototypes, preprocessing: Preprocessing, *, names: Sequence[str] | None = None
) -> Figure:
    """The training patches most similar to each prototype, a row per prototype, best first.

    Args:
      prototypes: Prototypes with the image patches that show them.
      preprocessing: Preprocessing of the counter.
      names: Names of the training images, if known.

    Returns:
      The figure; a frame in each patch marks the position that is meant.
    """
    places = prototypes.provenance
    patches = as_seen(places["top_patch"], preprocessing)
    size, n = patches.shape[:2]
    figure = Figure(figsize=(1.5 * n + 0.5, 1.6 * size), layout="constrained")
    grid = figure.subplots(size, n, squeeze=False)
    for k, name in enumerate(prototypes.names):
        for i, axes in enumerate(grid[k]):
            axes.imshow(patches[k, i], interpolation="nearest")
            axes.set(xticks=[], yticks=[])
            image, similar = places["top_image"][k, i], places["top_similarity"][k, i]
            name_shown = str(names[image])[-NAME_LENGTH:] if names else f"image {image}"
            axes.set_title(f"{name_shown}, S {similar:.2f}", fontsize=7, parse_math=False)
            corner = places["top_corner"][k, i]
            box = np.concatenate([corner, corner + prototypes.stride])[None]
            _draw(axes, box, group_colour(k, prototypes))
        counted = f"{prototypes.weights[k]:+.4f}" if prototypes.weights[k] else "not counted"
        grid[k][0].set_ylabel(f"{name}\n{counted}", fontsize=8, color=group_colour(k, prototypes))
    return figure


def as_seen(patches: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    """Normalised patches [..., C] as displayable intensities [..., 3] in 0..1, on one scale."""
    values = patches * np.array(preprocessing.std) + np.array(preprocessing.mean)
    values = values[..., :3] if values.shape[-1] >= 3 else np.repeat(values[..., :1], 3, axis=-1)
    return np.clip(values / max(float(np.percentile(values, 99.8)), 1e-6), 0, 1)


def space(prototypes: Prototypes) -> Figure:
    """Training features and prototypes along the three directions in which features vary most."""
    features, density = (prototypes.provenance[name] for name in ("sample", "sample_density"))
    sample, vectors = (principal(features, v) for v in (features, prototypes.vectors))
    figure = Figure(figsize=(7.2, 4.4))
    axes: Any = figure.add_axes((0.0, 0.05, 0.54, 0.92), projection="3d")
    dots = axes.scatter(*sample.T, c=density, s=7, cmap="viridis", alpha=0.5, linewidth=0)
    for k, name in enumerate(prototypes.names):
        group = k if k < prototypes.n_cell else k - prototypes.n_cell
        axes.scatter(
            *vectors[k],
            color=group_colour(k, prototypes),
            s=70,
            marker=MARKERS[group % len(MARKERS)],
            edgecolor="black",
            depthshade=False,
            label=name,
        )
    axes.legend(loc="center left", bbox_to_anchor=(1.14, 0.5), fontsize=8, frameon=False)
    bar = figure.colorbar(dots, cax=figure.add_axes((0.87, 0.2, 0.02, 0.6)))
    bar.set_label("cells at the feature's position")
    axes.set(xlabel="component 1", ylabel="component 2", zlabel="component 3")
    axes.tick_params(labelsize=6)
    return figure


def principal(features: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Points in the three principal directions of features.

    Args:
      features: [m, d].
      points: [n, d].

    Returns:
      [n, 3] float64, relative to the mean feature; 0 in directions beyond d.
    """
    mean = features.mean(axis=0, dtype=np.float64)
    directions = np.linalg.svd(features - mean, full_matrices=False)[2][:3]
    found = (points - mean) @ directions.T
    return np.pad(found, ((0, 0), (0, 3 - found.shape[1])))


def boxes(
    image: np.ndarray,
    explanation: Explanation,
    prototypes: Prototypes,
    *,
    dots: np.ndarray | None = None,
) -> Figure:
    """An image with the boxes of all prototypes and, if they are known, the dots.

    Args:
      image: [H, W, C] as read.
      explanation: Explanation of the image.
      prototypes: Prototypes of the counter.
      dots: [N, 2] true dots, or None.
    """
    figure = overlays.overlay(image, None, dots=dots, title=f"{explanation.count:.1f} cells")
    for k, found in enumerate(explanation.boxes):
        _draw(figure.axes[0], found, group_colour(k, prototypes))
    return figure


def maps(image: np.ndarray, explanation: Explanation, prototypes: Prototypes) -> Figure:
    """Similarity (above) and contribution in cells (below) of each prototype on the image.

    Args:
      image: [H, W, C] as read.
      explanation: Explanation of the image.
      prototypes: Prototypes of the counter.
    """
    size = len(explanation.boxes)
    height, width = image.shape[:2]
    shown = overlays.displayable(image).mean(axis=-1)
    figure = Figure(figsize=(2.1 * size, 2.1 * 2 * height / width + 0.9), layout="constrained")
    grid = figure.subplots(2, size, squeeze=False)
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    highest = float(explanation.similarity.max())
    most = max(float(np.abs(explanation.contribution).max()), 1e-9)
    similar = {"cmap": "magma", "vmin": 0.0, "vmax": highest, "interpolation": "bicubic"}
    counted = {"cmap": "RdBu_r", "vmin": -most, "vmax": most, "interpolation": "nearest"}
    for k, name in enumerate(prototypes.names):
        above, below = grid[:, k]
        colour, cells = group_colour(k, prototypes), f"{explanation.cells[k]:+.1f} cells"
        above.imshow(shown, cmap="gray")
        upper = above.imshow(explanation.similarity[..., k], extent=extent, alpha=0.6, **similar)
        _draw(above, explanation.boxes[k], colour)
        above.set_title(name, fontsize=9, color=colour)
        lower = below.imshow(explanation.contribution[..., k], extent=extent, **counted)
        below.set_title(cells if prototypes.weights[k] else "not counted", fontsize=9)
        for axes in (above, below):
            axes.set(xticks=[], yticks=[], xlim=extent[:2], ylim=extent[2:])
    figure.colorbar(upper, ax=grid[0, :].tolist(), label="similarity")
    figure.colorbar(lower, ax=grid[1, :].tolist(), label="cells per position")
    return figure


def _draw(axes, found: np.ndarray, colour: str) -> None:
    style: dict[str, Any] = {"fill": False, "edgecolor": colour, "linewidth": 1.2}
    for top, left, bottom, right in found - 0.5:
        axes.add_patch(Rectangle((left, top), right - left, bottom - top, **style))


def group_colour(k: int, prototypes: Prototypes) -> str:
    """Colour of prototype k: that of its group."""
    return CELL_COLOUR if k < prototypes.n_cell else BACKGROUND_COLOUR
