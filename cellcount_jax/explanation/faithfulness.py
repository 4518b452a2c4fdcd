"""How faithful explanations are: whether cell boxes hold cells, and whether the count is in them.

Each figure is given beside that of boxes of the same sizes at random places.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from cellcount_jax.data.sample import Sample
from cellcount_jax.evaluation import metrics
from cellcount_jax.explanation.prototypes import (
    Explanation,
    before_projection,
    prototypes_of,
    split_count,
)
from cellcount_jax.inference.counter import Count, Counter
from cellcount_jax.methods.base import Prototypes

N_RANDOM_BOXES = 20
"""Drawn for each box."""

GROUPS = ("cell", "background")


def measure(
    counter: Counter, samples: Sequence[Sample], counts: Sequence[Count], *, seed: int = 0
) -> dict[str, Any]:
    """All figures of a counter on labelled samples.

    Args:
      counter: with prototypes.
      samples: labelled and resampled already.
      counts: of the samples, with their maps.
      seed: of the random boxes.

    Returns:
      Flat numbers, None where one is not defined: `box_purity_cell` (share of the cell prototypes'
      boxes that hold a dot), `box_purity_background` (share that hold none), `coverage` (share of
      the dots inside some cell box), `deletion_drop` (share of the count that disappears when the
      cell boxes are filled with the image's mean), each also as `random_*`; purities also as
      `*_above_chance`, see `above_chance`; see also `negative_share`, `group_distances` and
      `other_errors`.
    """
    prototypes = prototypes_of(counter)
    own = counter.without_resampling()
    parts = [split_count(found, prototypes) for found in counts]
    rng = np.random.default_rng(seed)
    return {
        **box_purity(parts, samples, prototypes, rng),
        **deletion(own, parts, samples, prototypes, rng),
        "negative_share": negative_share(parts),
        **group_distances(prototypes.vectors, prototypes.n_cell),
        **group_distances(
            np.asarray(prototypes.before_projection.trained["prototypes"]),
            prototypes.n_cell,
            prefix="unprojected_",
        ),
        **other_errors(own, samples, counts),
    }


def box_purity(
    parts: Sequence[Explanation],
    samples: Sequence[Sample],
    prototypes: Prototypes,
    rng: np.random.Generator,
) -> dict[str, Any]:
    """Purity of both groups' boxes and coverage of the dots, each beside random boxes."""
    full: dict[str, list[np.ndarray]] = {g: [] for g in GROUPS}
    by_chance: dict[str, list[np.ndarray]] = {g: [] for g in GROUPS}
    covered, covered_by_chance = [], []
    for part, sample in zip(parts, samples, strict=True):
        dots, shape = _dots(sample), sample.image.shape[:2]
        for group, boxes in _grouped(part, prototypes.n_cell).items():
            random = list(_random_boxes(boxes, shape, rng, N_RANDOM_BOXES))
            full[group].append(holds_dot(boxes, dots))
            by_chance[group] += [holds_dot(r, dots) for r in random]
            if group == "cell":
                covered.append(_covered(boxes, dots))
                covered_by_chance += [_covered(r, dots) for r in random]
    found: dict[str, Any] = {}
    for prefix, held in (("", full), ("random_", by_chance)):
        found[f"{prefix}box_purity_cell"] = _share(held["cell"])
        found[f"{prefix}box_purity_background"] = _share([~h for h in held["background"]])
    for group in GROUPS:
        name = f"box_purity_{group}"
        found[f"{name}_above_chance"] = above_chance(found[name], found[f"random_{name}"])
        found[f"n_boxes_{group}"] = sum(len(h) for h in full[group])
    return found | {
        "coverage": _share(covered),
        "random_coverage": _share(covered_by_chance),
    }


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
    parts: Sequence[Explanation],
    samples: Sequence[Sample],
    prototypes: Prototypes,
    rng: np.random.Generator,
) -> dict[str, Any]:
    """Share of the count that disappears with the cell boxes, and with as many at random."""
    boxes = [_grouped(p, prototypes.n_cell)["cell"] for p in parts]
    before = sum(p.count for p in parts)

    def drop(filled: Iterator[np.ndarray]) -> float | None:
        after = sum(c.count for c in counter.count_all(filled))
        return (before - after) / before if before > 0 else None

    pairs = list(zip(samples, boxes, strict=True))
    chosen = drop(fill(s.image, b) for s, b in pairs)
    random = drop(
        fill(s.image, next(_random_boxes(b, s.image.shape[:2], rng, 1))) for s, b in pairs
    )
    return {"deletion_drop": chosen, "random_deletion_drop": random}


def fill(image: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """An image [H, W, C] with boxes filled with its mean colour."""
    filled = image.copy()
    mean = image.mean(axis=(0, 1))
    for top, left, bottom, right in boxes:
        filled[top:bottom, left:right] = mean
    return filled


def negative_share(parts: Sequence[Explanation]) -> float | None:
    """Cells removed by prototypes as a share of all that they add and remove, per position."""
    removed = sum(float(-np.minimum(p.contribution, 0).sum()) for p in parts)
    moved = sum(float(np.abs(p.contribution).sum()) for p in parts)
    return removed / moved if moved > 0 else None


def group_distances(vectors: np.ndarray, n_cell: int, *, prefix: str = "") -> dict[str, Any]:
    """Minimum and mean of the distances between the prototypes of a group.

    Args:
      vectors: [K, d].
      n_cell: number of cell prototypes, which come first.
      prefix: of the names.

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


def other_errors(
    counter: Counter, samples: Sequence[Sample], counts: Sequence[Count]
) -> dict[str, Any]:
    """Errors per sample: with the prototypes as they are (`projected_*`) and as they were before
    the last projection (`unprojected_*`), and of the density network that is explained
    (`extractor_*`)."""
    true = [float(len(_dots(s))) for s in samples]
    unprojected = before_projection(counter).count_all(s.image for s in samples)
    predicted = {
        "unprojected": [c.count for c in unprojected],
        "extractor": [float(c.maps["extractor_density"].sum(dtype=np.float64)) for c in counts],
        "projected": [c.count for c in counts],
    }
    return {
        f"{name}_{key}": metrics.count_errors(values, true)[key]
        for name, values in predicted.items()
        for key in ("mae", "rmse", "bias")
    }


def holds_dot(boxes: np.ndarray, dots: np.ndarray) -> np.ndarray:
    """[n] bool: whether each box [n, 4] contains the pixel of some dot [N, 2]."""
    return np.asarray(_inside(boxes, dots).any(axis=1))


def _covered(boxes: np.ndarray, dots: np.ndarray) -> np.ndarray:
    """[N] bool: whether each dot lies in some box."""
    return np.asarray(_inside(boxes, dots).any(axis=0))


def _inside(boxes: np.ndarray, dots: np.ndarray) -> np.ndarray:
    """[n, N] bool."""
    corners = boxes.reshape(-1, 1, 4) - 0.5  # A pixel reaches half a step to both sides.
    y, x = dots[None, :, 0], dots[None, :, 1]
    inside = (corners[..., 0] <= y) & (y < corners[..., 2])
    return inside & (corners[..., 1] <= x) & (x < corners[..., 3])


def _grouped(part: Explanation, n_cell: int) -> dict[str, np.ndarray]:
    """All boxes of each group, [n, 4]."""
    return {
        "cell": np.concatenate([np.zeros((0, 4), int), *part.boxes[:n_cell]]),
        "background": np.concatenate([np.zeros((0, 4), int), *part.boxes[n_cell:]]),
    }


def _random_boxes(
    boxes: np.ndarray, shape: Sequence[int], rng: np.random.Generator, repeats: int
) -> Iterator[np.ndarray]:
    """Boxes of the same sizes at random places in an image of `shape`, `repeats` times."""
    sizes = boxes[:, 2:] - boxes[:, :2]
    room = np.maximum(np.asarray(shape) - sizes, 0)
    for _ in range(repeats):
        corner = rng.integers(0, room + 1)
        yield np.concatenate([corner, corner + sizes], axis=1)


def _share(values: Sequence[np.ndarray]) -> float | None:
    joined = np.concatenate([np.zeros(0, bool), *values])
    return float(joined.mean()) if len(joined) else None


def _dots(sample: Sample) -> np.ndarray:
    if sample.dots is None:
        raise ValueError(f"{sample.name}: no dots to compare boxes with")
    return sample.dots
