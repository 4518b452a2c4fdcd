"""Figures of prototypes and of what they see, each a matplotlib figure."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from cellcount_jax.counting.explanations import Explanation, Prototypes
from cellcount_jax.data.preprocess import Preprocessing
from cellcount_jax.reporting import figures

CELL_COLOUR, BACKGROUND_COLOUR = "#06a77d", "#118ab2"


def gallery(prototypes: Prototypes, preprocessing: Preprocessing) -> Figure:
    """The training patches most similar to each prototype, a row per prototype, best first."""
    places = prototypes.places
    patches = as_seen(places["top_patch"], preprocessing)
    size, n = patches.shape[:2]
    figure = Figure(figsize=(1.5 * n + 2.4, 1.55 * size), layout="constrained")
    grid = figure.subplots(size, n, squeeze=False)
    for k, name in enumerate(prototypes.names):
        for i, axes in enumerate(grid[k]):
            axes.imshow(patches[k, i], interpolation="nearest")
            axes.set(xticks=[], yticks=[])
            image, similar = places["top_image"][k, i], places["top_similarity"][k, i]
            axes.set_title(f"picture {image}, S {similar:.2f}", fontsize=7)
        counted = f"{prototypes.weights[k]:+.4f}" if prototypes.weights[k] else "not counted"
        grid[k][0].set_ylabel(f"{name}\n{counted}", fontsize=8, color=_colour(k, prototypes))
    return figure


def as_seen(patches: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    """Normalised patches [..., C] back to brightness [..., 3] in 0..1, one scale for all."""
    values = patches * np.array(preprocessing.std) + np.array(preprocessing.mean)
    values = values[..., :3] if values.shape[-1] >= 3 else np.repeat(values[..., :1], 3, axis=-1)
    return np.clip(values / max(float(np.percentile(values, 99.8)), 1e-6), 0, 1)


def space(prototypes: Prototypes) -> Figure:
    """Training features and prototypes along the three directions in which features vary most."""
    sample, vectors = (
        principal(prototypes.places["sample"], v)
        for v in (prototypes.places["sample"], prototypes.vectors)
    )
    density = prototypes.places["sample_density"]
    figure = Figure(figsize=(6.0, 5.0))
    axes = figure.add_subplot(projection="3d")
    dots = axes.scatter(*sample.T, c=density, s=7, cmap="viridis", alpha=0.8, linewidth=0)
    for k, name in enumerate(prototypes.names):
        colour = _colour(k, prototypes)
        axes.scatter(*vectors[k], color=colour, s=60, marker="^", edgecolor="black")
        axes.text(*vectors[k], f" {name}", fontsize=8, color=colour)
    bar = figure.colorbar(dots, ax=axes, shrink=0.6, pad=0.1)
    bar.set_label("cells at the feature's position")
    axes.set(xlabel="component 1", ylabel="component 2", zlabel="component 3")
    axes.tick_params(labelsize=6)
    return figure


def principal(features: np.ndarray, points: np.ndarray) -> np.ndarray:
    """`points` [n, d] in the three principal directions of `features` [m, d]; [n, 3]."""
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
    """A picture with the boxes of all prototypes and, where known, the dots."""
    figure = figures.overlay(image, None, dots=dots, title=f"{explanation.count:.1f} cells")
    for k, found in enumerate(explanation.boxes):
        _draw(figure.axes[0], found, _colour(k, prototypes))
    return figure


def maps(image: np.ndarray, explanation: Explanation, prototypes: Prototypes) -> Figure:
    """Similarity (above) and contribution in cells (below) of each prototype on the picture."""
    size = len(explanation.boxes)
    height, width = image.shape[:2]
    shown = figures.displayable(image).mean(axis=-1)
    figure = Figure(figsize=(2.1 * size, 2.1 * 2 * height / width + 0.9), layout="constrained")
    grid = figure.subplots(2, size, squeeze=False)
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    most = max(float(np.abs(explanation.contribution).max()), 1e-9)
    similar = explanation.similarity
    for k, name in enumerate(prototypes.names):
        above, below = grid[:, k]
        above.imshow(shown, cmap="gray")
        upper = above.imshow(
            similar[..., k],
            extent=extent,
            interpolation="bicubic",
            cmap="magma",
            alpha=0.6,
            vmin=0.0,
            vmax=float(similar.max()),
        )
        _draw(above, explanation.boxes[k], _colour(k, prototypes))
        above.set_title(name, fontsize=9, color=_colour(k, prototypes))
        lower = below.imshow(
            explanation.contribution[..., k],
            extent=extent,
            interpolation="nearest",
            cmap="RdBu_r",
            vmin=-most,
            vmax=most,
        )
        below.set_title(f"{explanation.cells[k]:+.1f} cells", fontsize=9)
        for axes in (above, below):
            axes.set(xticks=[], yticks=[], xlim=extent[:2], ylim=extent[2:])
    figure.colorbar(upper, ax=grid[0, :].tolist(), label="similarity")
    figure.colorbar(lower, ax=grid[1, :].tolist(), label="cells per position")
    return figure


def _draw(axes, found: np.ndarray, colour: str) -> None:
    for top, left, bottom, right in found - 0.5:
        corner = (left, top)
        axes.add_patch(
            Rectangle(
                corner, right - left, bottom - top, fill=False, edgecolor=colour, linewidth=1.2
            )
        )


def _colour(k: int, prototypes: Prototypes) -> str:
    return CELL_COLOUR if k < prototypes.n_cell else BACKGROUND_COLOUR
