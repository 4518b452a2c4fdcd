"""How much a count depends on the grid of windows that an image is cut into."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cellcount_jax.inference.batched_predict import overlap
from cellcount_jax.inference.counter import Counter
from cellcount_jax.inference.window_pass import count_images


class GridEffect(NamedTuple):
    """Counts of one image on several grids.

    Attributes:
      offsets: Origin of each grid, per axis in pixels of the network's image.
      counts: Counts on each grid; the first is what `Counter.count` gives.
      change: Largest change of the count relative to the default grid, in percent; None if that
        count is 0.
    """

    offsets: list[tuple[int, ...]]
    counts: list[float]
    change: float | None


def grid_effect(counter: Counter, image: np.ndarray, *, n: int = 2) -> GridEffect:
    """Counts an image on grids of windows with different origins.

    Args:
      counter: Trained counter.
      image: [H, W], [H, W, C] or [D, H, W, C] as read from a file. Only images larger than a
        window depend on the grid.
      n: Number of offsets per axis.

    Returns:
      Counts, and the largest change. A network whose receptive field is within its halo gives the
      same count on all grids.
    """
    prepared = counter.prepare(image)
    offsets = _offsets(counter, prepared.space, n)
    counts = [
        next(count_images(counter.predictor, [prepared], offset=offset)).count for offset in offsets
    ]
    spread = max(abs(c - counts[0]) for c in counts)
    return GridEffect(offsets, counts, 100 * spread / abs(counts[0]) if counts[0] else None)


def _offsets(counter: Counter, shape: Sequence[int], n: int) -> list[tuple[int, ...]]:
    """The default grid (0), then all others of `n` places per axis, multiples of the stride."""
    stage = counter.stage
    read = counter.predictor.cut(shape)[0].read
    window = [r.stop - r.start for r in read]
    halos = overlap(stage, window)
    room = [max(1, (w - 2 * h) // stage.stride) for w, h in zip(window, halos, strict=True)]
    places = [[stage.stride * (i * r // n) for i in range(n)] for r in room]
    return sorted(itertools.product(*places))
