"""Where the cells lie: centres drawn at random, in clusters, in crowds, at a least distance."""

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np

Propose = Callable[[np.random.Generator, int], np.ndarray]

# an image counts as full after so many rounds of proposals without a single new centre
_PATIENCE = 60
_N_WAVES = 6
# densest packing of discs and balls of diameter 1: centres per unit of area or volume
_DENSEST = {2: 2 / math.sqrt(3), 3: math.sqrt(2)}


def uniform(shape: Sequence[int]) -> Propose:
    """Centres anywhere from the centre of the first pixel to that of the last."""
    last = np.asarray(shape, np.float64) - 1

    def propose(rng: np.random.Generator, n: int) -> np.ndarray:
        return rng.random((n, len(last))) * last

    return propose


def clusters(
    rng: np.random.Generator, shape: Sequence[int], n: int, *, size: float, spread: float
) -> Propose:
    """Centres about common middles (a Thomas process); what leaves the image is mirrored in.

    Args:
      rng: source of randomness for the middles.
      shape: space shape, pixels.
      n: number of cells to come, which with `size` gives the number of clusters.
      size: mean number of cells of a cluster.
      spread: standard deviation of the distance from the middle, per axis, pixels.
    """
    last = np.asarray(shape, np.float64) - 1
    middles = uniform(shape)(rng, max(1, round(n / size)))

    def propose(rng: np.random.Generator, n: int) -> np.ndarray:
        chosen = (rng.random(n) * len(middles)).astype(np.int64)
        points = middles[chosen] + spread * rng.standard_normal((n, len(last)))
        period = np.maximum(2 * last, 1e-9)
        folded = np.mod(points, period)
        return np.where(folded > last, period - folded, folded)

    return propose


def mixture(first: Propose, second: Propose, share: float) -> Propose:
    """Each centre from `first` with probability `share`, else from `second`."""

    def propose(rng: np.random.Generator, n: int) -> np.ndarray:
        pick = rng.random(n) < share
        return np.where(pick[:, None], _enough(rng, first, n), _enough(rng, second, n))

    return propose


def crowds(
    rng: np.random.Generator, shape: Sequence[int], *, crowding: float, centring: float
) -> Propose:
    """Centres whose density swells and ebbs in a few waves about as long as the image.

    Args:
      rng: source of randomness for the waves.
      shape: space shape, pixels.
      crowding: standard deviation of the density in the waves, fraction of its mean.
      centring: mean fall of the density from the centre to the middle of a side, fraction.
    """
    plain = uniform(shape)
    half = np.maximum(np.asarray(shape, np.float64) - 1, 1) / 2
    waves = rng.standard_normal((_N_WAVES, len(shape))) * (3.0 / max(shape))
    phases = 2 * np.pi * rng.random(_N_WAVES)
    amplitude = crowding * math.sqrt(2 / _N_WAVES)
    highest = 1 + amplitude * _N_WAVES + centring * len(shape) / 3

    def propose(rng: np.random.Generator, n: int) -> np.ndarray:
        points = plain(rng, n)
        angle = (points[:, None, :] * waves).sum(axis=-1) + phases
        density = 1 + amplitude * np.cos(angle).sum(axis=-1)
        density += centring * (1 / 3 - (points / half - 1) ** 2).sum(axis=-1)
        return points[rng.random(n) * highest < np.maximum(density, 0.02)]

    return propose


def place(
    rng: np.random.Generator,
    propose: Propose,
    n: int,
    shape: Sequence[int],
    *,
    min_distance: Sequence[float],
) -> np.ndarray:
    """Exactly n centres, no two nearer than the least distance.

    Random sequential placement by rounds: of many proposals at once those stay that are far
    enough from all placed before and from all earlier proposals of the round. A grid that holds
    at most one centre per box finds the neighbours, so the work grows with n.

    Args:
      rng: source of randomness.
      propose: draws candidates [m, ndim], m at most what was asked.
      n: number of centres.
      shape: space shape, pixels.
      min_distance: least distance per axis, pixels: centres keep
        sum((difference / min_distance) ** 2) >= 1. All zero: no condition.

    Returns:
      Centres [n, ndim] float64.

    Raises:
      ValueError: no room for n centres.
    """
    ndim = len(shape)
    if n > math.prod(shape):
        raise ValueError(f"{n} cells do not fit into {tuple(shape)}: more cells than pixels")
    if n == 0:
        return np.zeros((0, ndim))
    if not any(min_distance):
        return _enough(rng, propose, n)
    unit = np.asarray(min_distance, np.float64)
    room = np.prod(np.asarray(shape, np.float64) / unit + 1)
    full = f"{n} cells at least {tuple(map(float, unit.round(2)))} pixels apart do not fit into "
    full += f"{tuple(shape)}; ask for fewer, or let them lie nearer (overlap, min_distance)"
    if n > _DENSEST[ndim] * room:
        raise ValueError(full)
    box = unit / math.sqrt(ndim)
    reach = math.ceil(math.sqrt(ndim))
    grid = np.full([int(s / b) + 1 + 2 * reach for s, b in zip(shape, box, strict=True)], -1)
    steps = np.array(list(itertools.product(range(-reach, reach + 1), repeat=ndim)))

    placed = np.zeros((0, ndim))
    idle = 0
    while len(placed) < n:
        fresh = _enough(rng, propose, 2 * (n - len(placed)) + 32)
        boxes = (fresh / box).astype(np.int64) + reach
        free = ~_crowded(fresh, boxes, steps, grid, placed, unit, len(placed))
        fresh, boxes = fresh[free], boxes[free]
        first = _first_of_each_box(boxes, grid.shape)
        fresh, boxes = fresh[first], boxes[first]
        order = np.arange(len(fresh))
        trial = np.full(grid.shape, -1)
        trial[tuple(boxes.T)] = order
        keep = ~_crowded(fresh, boxes, steps, trial, fresh, unit, order[:, None])
        fresh, boxes = fresh[keep][: n - len(placed)], boxes[keep][: n - len(placed)]
        grid[tuple(boxes.T)] = len(placed) + np.arange(len(fresh))
        idle = 0 if len(fresh) else idle + 1
        if idle == _PATIENCE:
            raise ValueError(full)
        placed = np.concatenate([placed, fresh])
    return placed


def _enough(rng: np.random.Generator, propose: Propose, n: int) -> np.ndarray:
    """n candidates from proposals that may come back short."""
    parts = [propose(rng, n)]
    while sum(map(len, parts)) < n:
        parts.append(propose(rng, n))
    return np.concatenate(parts)[:n]


def _first_of_each_box(boxes: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Indices, ascending, of the first candidate in each box of the grid."""
    flat = np.ravel_multi_index(tuple(boxes.T), shape)
    return np.sort(np.unique(flat, return_index=True)[1])


def _crowded(
    points: np.ndarray,
    boxes: np.ndarray,
    steps: np.ndarray,
    grid: np.ndarray,
    others: np.ndarray,
    unit: np.ndarray,
    before: int | np.ndarray,
) -> np.ndarray:
    """Whether a point lies too near one of `others` with an index below `before`."""
    if not len(others) or not len(points):
        return np.zeros(len(points), bool)
    index = grid[tuple(np.moveaxis(boxes[:, None] + steps, -1, 0))]
    near = ((((points[:, None] - others[index]) / unit) ** 2).sum(axis=-1) < 1) & (index >= 0)
    return (near & (index < before)).any(axis=1)
