"""Why a counter of prototypes gives its count; nothing is drawn here.

For each image: where each prototype is most similar (similarity maps, boxes about the strongest
positions) and how many cells it adds or removes (contribution maps, a table that sums to the
count). Works for every stage that offers `Stage.explain`.

Source: CountXplain (MIDL 2025), local and global explanations.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import ndimage

from cellcount_jax.data.resize import in_plane
from cellcount_jax.inference.count import Count
from cellcount_jax.inference.counter import Counter
from cellcount_jax.inference.image_argument import to_image
from cellcount_jax.methods.base import Prototypes

BOX_PERCENTILE = 99.0
"""Positions whose similarity reaches this percentile of their own map are boxed."""


@dataclasses.dataclass(frozen=True, eq=False)
class Explanation:
    """One image's count as a sum of contributions.

    Attributes:
      count: Number of cells.
      similarity: [h, w, K].
      contribution: [h, w, K] cells per position of the map.
      boxes: Boxes [n, 4] int of each prototype: top, left, bottom, right in pixels of the image,
        the last two exclusive; of whole positions, so that a box may end beyond the image's border.
      cells: [K] cells that each prototype adds (or removes).
      bias_cells: Cells that the bias adds; with `cells` it sums to `count`.
      pixels: Number of image pixels per position of the maps.
    """

    count: float
    similarity: np.ndarray
    contribution: np.ndarray
    boxes: tuple[np.ndarray, ...]
    cells: np.ndarray
    bias_cells: float
    pixels: float = 1.0


def prototypes_of(counter: Counter) -> Prototypes:
    """The prototypes of a trained counter.

    Raises:
      ValueError: It has none.
    """
    if counter.stage.explain is None:
        method = counter.facts.get("method", counter.stage.name)
        raise ValueError(
            f"a counter of method {method} has no prototypes to explain its counts by; use a "
            "method whose last stage counts by prototypes"
        )
    return counter.stage.explain(counter.variables)


def before_projection(counter: Counter) -> Counter:
    """The same counter with prototypes and weights as they were before the last projection."""
    return dataclasses.replace(counter, variables=prototypes_of(counter).before_projection)


def explain(
    counter: Counter, image: np.ndarray, *, spacing: Sequence[float] | None = None
) -> Explanation:
    """Counts one image and splits the count into contributions.

    Args:
      counter: Counter with prototypes.
      image: Image as in `Counter.count`.
      spacing: As for `Counter.count`.

    Raises:
      ValueError: The counter has no prototypes, or the image is a volume or smaller than one
        position of the map.
    """
    prototypes, stored = prototypes_of(counter), to_image(image, None)
    shape, stride = stored.shape[:-1], prototypes.stride
    if len(shape) != 2:
        raise ValueError(f"prototypes explain images; this is a volume of {shape} voxels")
    if min(shape) * in_plane(counter.resampling.scale_for(stored, spacing)) < stride:
        sides = " x ".join(map(str, shape))
        raise ValueError(
            f"an image of {sides} pixels is smaller than one position of the map ({stride} "
            "pixels of the network's image); enlarge it"
        )
    return split_count(counter.count(image, spacing=spacing), prototypes)


def split_count(found: Count, prototypes: Prototypes) -> Explanation:
    """The explanation of a count from its maps.

    Args:
      found: Count from a counter with prototypes.
      prototypes: Prototypes of that counter.
    """
    similarity = found.maps["similarity"]
    contribution = found.maps["contribution"].astype(np.float64)
    height, width, size = similarity.shape
    missing, pixels = size - contribution.shape[-1], prototypes.stride / in_plane(found.scale)
    contribution = np.pad(contribution, ((0, 0), (0, 0), (0, missing)))
    return Explanation(
        count=found.count,
        similarity=similarity,
        contribution=contribution.astype(np.float32),
        boxes=tuple(boxes_of(similarity[..., k], pixels=pixels) for k in range(size)),
        cells=contribution.sum(axis=(0, 1)),
        bias_cells=prototypes.bias * height * width,
        pixels=pixels,
    )


def boxes_of(similarity: np.ndarray, *, pixels: float = 1.0) -> np.ndarray:
    """Boxes about the strongest positions of a map.

    Args:
      similarity: [h, w] of one prototype.
      pixels: Number of image pixels per position.

    Returns:
      [n, 4] int, top, left, bottom, right of each 4-connected component of the positions from the
      99th percentile of the map on, in raster order; none if the map is flat.
    """
    if similarity.size == 0 or similarity.max() == similarity.min():
        return np.zeros((0, 4), int)
    strong = similarity >= np.percentile(similarity, BOX_PERCENTILE)
    found = ndimage.find_objects(ndimage.label(strong)[0])
    corners = [(y.start, x.start, y.stop, x.stop) for y, x in found]
    return np.rint(np.array(corners) * pixels).astype(int)


def table(explanation: Explanation, prototypes: Prototypes) -> list[dict[str, Any]]:
    """A row per prototype, one for the bias, and their sum, the count.

    Returns:
      Dicts with `part`, `group` (cell, background or empty), `weight`, `cells`, `boxes`.
    """
    rows: list[dict[str, Any]] = [
        {
            "part": name,
            "group": "cell" if k < prototypes.n_cell else "background",
            "weight": float(prototypes.weights[k]),
            "cells": float(explanation.cells[k]),
            "boxes": len(explanation.boxes[k]),
        }
        for k, name in enumerate(prototypes.names)
    ]
    empty = {"group": "", "weight": None, "boxes": None}
    rows.append({"part": "bias", **empty, "cells": explanation.bias_cells})
    total = float(explanation.cells.sum() + explanation.bias_cells)
    return [*rows, {"part": "count", **empty, "cells": total}]
