"""How faithful explanations are: whether cell boxes hold cells, and whether the count is in them.

Each figure is given beside that of boxes of the same sizes at random places.
"""

import collections
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from cellcount_jax.evaluation import metrics
from cellcount_jax.evaluation.evaluate import Evaluation
from cellcount_jax.explanation.prototypes import (
    Explanation,
    before_projection,
    prototypes_of,
    split_count,
)
from cellcount_jax.inference.counter import Counter

N_RANDOM_BOXES = 20
"""Drawn for each box."""

GROUPS = ("cell", "background")


def measure(counter: Counter, evaluation: Evaluation, *, seed: int = 0) -> dict[str, Any]:
    """Measures of the explanations of all evaluated samples.

    Args:
      counter: Counter with prototypes.
      evaluation: Evaluation of the counter.
      seed: Seed of the random boxes.

    Returns:
      Flat numbers, None where one is not defined: `box_purity_cell` (share of the cell prototypes'
      boxes that hold a dot), `box_purity_background` (share that hold none), `coverage` (share of
      the dots inside some cell box), `deletion_drop` (share of the count that disappears when the
      cell boxes are filled with the image's mean), each also as `random_*`; purities also as
      `*_above_chance`, see `above_chance`; see also `negative_share`, `group_distances` and
      `other_errors`.
    """
    prototypes, own = prototypes_of(counter), counter.without_resampling()
    explained = [split_count(found, prototypes) for found in evaluation.counts]
    before = np.asarray(prototypes.before_projection.trained["prototypes"])
    rng, n_cell = np.random.default_rng(seed), prototypes.n_cell
    return {
        **box_purity(explained, evaluation, n_cell, rng),
        **deletion(own, explained, [s.image for s in evaluation.samples], n_cell, rng),
        "negative_share": negative_share(explained),
        **group_distances(prototypes.vectors, n_cell),
        **group_distances(before, n_cell, prefix="unprojected_"),
        **other_errors(own, evaluation),
    }


def box_purity(
    explained: Sequence[Explanation], evaluation: Evaluation, n_cell: int, rng: np.random.Generator
) -> dict[str, Any]:
    """Purity of both groups' boxes and coverage of the dots, also of random boxes."""
    held: dict[str, list[np.ndarray]] = collections.defaultdict(list)
    covered: dict[str, list[np.ndarray]] = collections.defaultdict(list)
    for explanation, sample in zip(explained, evaluation.samples, strict=True):
        assert sample.dots is not None  # `evaluate` takes no others
        for group, boxes in _grouped(explanation, n_cell).items():
            random = _random_boxes(boxes, sample.image.shape[:2], rng, N_RANDOM_BOXES)
            for prefix, drawn in [("", boxes), *(("random_", other) for other in random)]:
                inside = contains(drawn, sample.dots)
                held[prefix + group].append(np.asarray(inside.any(axis=1)))
                covered[prefix + group].append(np.asarray(inside.any(axis=0)))
    found: dict[str, Any] = {}
    for prefix in ("random_", ""):
        cell, background = (np.concatenate(held[prefix + group]) for group in GROUPS)
        found[f"{prefix}box_purity_cell"] = _mean(cell)
        found[f"{prefix}box_purity_background"] = _mean(~background)
        found[f"{prefix}coverage"] = _mean(np.concatenate(covered[f"{prefix}cell"]))
    for group in GROUPS:
        name = f"box_purity_{group}"
        found[f"{name}_above_chance"] = above_chance(found[name], found[f"random_{name}"])
        found[f"n_boxes_{group}"] = sum(len(part) for part in held[group])
    return found


def above_chance(share: float | None, by_chance: float | None) -> float | None:
    """Purity above that of random boxes, as a share of the possible gain; below 0 it is worse.

    Where cells are sparse nearly every box is empty, and a difference of two purities cannot be
    large; this can.
    """
    if share is None or by_chance is None or by_chance == 1:
        return None
    return (share - by_chance) / (1 - by_chance)


def deletion(
    counter: Counter,
    explained: Sequence[Explanation],
    images: Sequence[np.ndarray],
    n_cell: int,
    rng: np.random.Generator,
) -> dict[str, Any]:
    """Share of the count that disappears with the cell boxes, and with as many random ones."""
    before = sum(explanation.count for explanation in explained)
    boxes = [_grouped(explanation, n_cell)["cell"] for explanation in explained]
    pairs = list(zip(images, boxes, strict=True))

    def drop(filled: Iterator[np.ndarray]) -> float | None:
        after = sum(found.count for found in counter.count_all(filled))
        return (before - after) / before if before > 0 else None

    return {
        "deletion_drop": drop(fill(image, own) for image, own in pairs),
        "random_deletion_drop": drop(
            fill(image, next(_random_boxes(own, image.shape[:2], rng, 1))) for image, own in pairs
        ),
    }


def fill(image: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """An image [H, W, C] with boxes filled with its mean colour."""
    filled = image.copy()
    mean = image.mean(axis=(0, 1))
    for top, left, bottom, right in boxes:
        filled[top:bottom, left:right] = mean
    return filled


def negative_share(explained: Sequence[Explanation]) -> float | None:
    """Cells removed by prototypes as a share of all that they add and remove, per position."""
    removed = sum(float(-np.minimum(e.contribution, 0).sum()) for e in explained)
    moved = sum(float(np.abs(e.contribution).sum()) for e in explained)
    return removed / moved if moved > 0 else None


def group_distances(vectors: np.ndarray, n_cell: int, *, prefix: str = "") -> dict[str, Any]:
    """Minimum and mean of the distances between the prototypes of a group.

    Args:
      vectors: [K, d].
      n_cell: Number of cell prototypes, which come first.
      prefix: Prefix of the names.

    Returns:
      `distance_cell_min`, `distance_cell_mean`, `squared_distance_cell_min`, ...; None for a group
      of one.
    """
    found: dict[str, Any] = {}
    for group, rows in zip(GROUPS, (vectors[:n_cell], vectors[n_cell:]), strict=True):
        first, second = np.triu_indices(len(rows), 1)
        squared = np.square(rows[first].astype(np.float64) - rows[second]).sum(axis=1)
        for name, values in (("distance", np.sqrt(squared)), ("squared_distance", squared)):
            for word, of in (("min", np.min), ("mean", np.mean)):
                value = float(of(values)) if len(values) else None
                found[f"{prefix}{name}_{group}_{word}"] = value
    return found


def other_errors(counter: Counter, evaluation: Evaluation) -> dict[str, Any]:
    """Errors per sample: with the prototypes as they are (`projected_*`) and as they were before
    the last projection (`unprojected_*`), and of the density network that is explained
    (`extractor_*`)."""
    samples, counts = evaluation.samples, evaluation.counts
    unprojected = before_projection(counter).count_all(s.image for s in samples)
    predicted = {
        "unprojected": [c.count for c in unprojected],
        "extractor": [float(c.maps["extractor_density"].sum(dtype=np.float64)) for c in counts],
        "projected": [c.count for c in counts],
    }
    true = np.array([s.count for s in samples], float)
    return {
        f"{name}_{key}": metrics.count_errors(values, true)[key]
        for name, values in predicted.items()
        for key in ("mae", "rmse", "bias")
    }


def contains(boxes: np.ndarray, dots: np.ndarray) -> np.ndarray:
    """[n, N] bool: whether each box [n, 4] contains the pixel of each dot [N, 2]."""
    corners = boxes.reshape(-1, 1, 4) - 0.5  # A pixel reaches half a step to both sides.
    y, x = dots[None, :, 0], dots[None, :, 1]
    inside = (corners[..., 0] <= y) & (y < corners[..., 2])
    return inside & (corners[..., 1] <= x) & (x < corners[..., 3])


def _grouped(explanation: Explanation, n_cell: int) -> dict[str, np.ndarray]:
    """All boxes of each group, [n, 4]."""
    none = np.zeros((0, 4), int)
    parts = explanation.boxes[:n_cell], explanation.boxes[n_cell:]
    return {g: np.concatenate([none, *boxes]) for g, boxes in zip(GROUPS, parts, strict=True)}


def _random_boxes(
    boxes: np.ndarray, shape: Sequence[int], rng: np.random.Generator, repeats: int
) -> Iterator[np.ndarray]:
    """Boxes of the same sizes at random places in an image of `shape`, `repeats` times."""
    sizes = boxes[:, 2:] - boxes[:, :2]
    room = np.maximum(np.asarray(shape) - sizes, 0)
    for _ in range(repeats):
        corner = rng.integers(0, room + 1)
        yield np.concatenate([corner, corner + sizes], axis=1)


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if len(values) else None
