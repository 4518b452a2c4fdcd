"""Why a counter of prototypes says what it says: data, nothing is drawn here.

For each image: where each prototype finds itself (similarity maps, boxes about the strongest
places) and how many cells it adds or removes (contribution maps, a table that sums to the count).

Source: CountXplain (MIDL 2025), local and global explanations.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import ndimage

from cellcount_jax.data.pixel_size import in_plane
from cellcount_jax.inference.counter import Count, Counter, to_channels_last
from cellcount_jax.methods.countxplain import method as countxplain

PERCENTILE = 99.0
"""Similarities from this percentile of an image's own map on are boxed."""


@dataclasses.dataclass(frozen=True, eq=False)
class Prototypes:
    """What a trained counter knows of its K prototypes; the first `n_cell` stand for cells.

    Attributes:
      n_cell: number of cell prototypes.
      vectors: [K, d], exact training features.
      unprojected: [K, d] before the last projection.
      weights: [K] cells per unit of similarity; 0 for those that do not count.
      bias: cells per position of the map.
      places: `image`, `row`, `column`, `distance` [K] of the last projection, and the fields that
        `methods.countxplain.projection` keeps for images of them.
    """

    n_cell: int
    vectors: np.ndarray
    unprojected: np.ndarray
    weights: np.ndarray
    bias: float
    places: Mapping[str, np.ndarray]

    @property
    def names(self) -> list[str]:
        """A name for each prototype."""
        rest = len(self.vectors) - self.n_cell
        cells = [f"cell {i + 1}" for i in range(self.n_cell)]
        return cells + [f"background {i + 1}" for i in range(rest)]


@dataclasses.dataclass(frozen=True, eq=False)
class Explanation:
    """One image's count, taken apart.

    Attributes:
      count: number of cells.
      similarity: [h, w, K].
      contribution: [h, w, K] cells per position of the map.
      boxes: for each prototype [n, 4] int: top, left, bottom, right in pixels of the image, the
        last two just outside; whole positions, so that a box may end beyond the image's rim.
      cells: [K] cells that each prototype adds (or removes).
      bias_cells: cells that the bias adds; with `cells` it sums to `count`.
    """

    count: float
    similarity: np.ndarray
    contribution: np.ndarray
    boxes: tuple[np.ndarray, ...]
    cells: np.ndarray
    bias_cells: float


def has_prototypes(counter: Counter) -> bool:
    """Whether a counter can be explained."""
    return counter.stage.name == countxplain.NAME


def prototypes_of(counter: Counter) -> Prototypes:
    """The prototypes of a counter that was loaded from its checkpoint.

    Raises:
      ValueError: the counter has none.
    """
    if not has_prototypes(counter):
        method = counter.facts.get("method", counter.stage.name)
        raise ValueError(
            f"a counter of method {method} has no prototypes to explain it by; train one with "
            "configs/countxplain_*.py"
        )
    trained, extras = counter.variables.trained, counter.variables.extras
    options: Mapping[str, Any] = counter.facts["config"]["prototypes"]
    weights, bias = countxplain.density_weights(trained, options)
    return Prototypes(
        n_cell=options["n_prototypes"] // 2,
        vectors=np.asarray(trained["prototypes"]),
        unprojected=np.asarray(extras["unprojected"]),
        weights=weights,
        bias=bias,
        places={name: np.asarray(value) for name, value in extras.items()},
    )


def before_projection(counter: Counter) -> Counter:
    """The same counter with prototypes and weights as they were before the last projection."""
    trained, extras = counter.variables.trained, counter.variables.extras
    density = {
        # Kept where the weights were fitted anew after the projection.
        name: extras.get(f"unprojected_density_{name}", value)
        for name, value in trained["density"].items()
    }
    before = {**trained, "prototypes": extras["unprojected"], "density": density}
    variables = counter.variables._replace(trained=before)
    return dataclasses.replace(counter, variables=variables)


def explain(
    counter: Counter,
    image: np.ndarray,
    *,
    axes: str | None = None,
    spacing: Sequence[float] | None = None,
) -> Explanation:
    """Counts one image and takes the count apart.

    Args:
      counter: with prototypes.
      image: as `Counter.count` takes it.
      axes: likewise.
      spacing: likewise.

    Raises:
      ValueError: the counter has no prototypes, or the image is a volume or smaller than one
        position of the map.
    """
    prototypes = prototypes_of(counter)
    shape, stride = to_channels_last(image, axes).shape[:-1], counter.stage.stride
    if len(shape) != 2:
        raise ValueError(f"prototypes explain images; this is a volume of {shape} voxels")
    if min(shape) * in_plane(counter.scale_of(shape, spacing)) < stride:
        sides = " x ".join(map(str, shape))
        raise ValueError(
            f"an image of {sides} pixels is smaller than one position of the map ({stride} "
            "pixels of the network's image); enlarge it"
        )
    found = counter.count(image, axes=axes, spacing=spacing)
    return take_apart(found, prototypes, stride=stride)


def take_apart(found: Count, prototypes: Prototypes, *, stride: int) -> Explanation:
    """The explanation of a count whose maps are at hand.

    Args:
      found: of a counter with prototypes.
      prototypes: of that counter.
      stride: pixels of the network's image per position of its maps.
    """
    similarity = found.maps["similarity"]
    contribution = found.maps["contribution"].astype(np.float64)
    height, width, size = similarity.shape
    missing, pixels = size - contribution.shape[-1], stride / in_plane(found.scale)
    contribution = np.pad(contribution, ((0, 0), (0, 0), (0, missing)))
    return Explanation(
        count=found.count,
        similarity=similarity,
        contribution=contribution.astype(np.float32),
        boxes=tuple(boxes_of(similarity[..., k], pixels=pixels) for k in range(size)),
        cells=contribution.sum(axis=(0, 1)),
        bias_cells=prototypes.bias * height * width,
    )


def boxes_of(similarity: np.ndarray, *, pixels: float = 1.0) -> np.ndarray:
    """Boxes about the strongest places of a map.

    Args:
      similarity: [h, w] of one prototype.
      pixels: of the image per position.

    Returns:
      [n, 4] int, top, left, bottom, right of each 4-connected component of the positions from the
      99th percentile of the map on, in raster order; none if the map is flat.
    """
    if similarity.size == 0 or similarity.max() == similarity.min():
        return np.zeros((0, 4), int)
    strong = similarity >= np.percentile(similarity, PERCENTILE)
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
