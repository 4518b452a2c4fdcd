"""Random positions of cells: uniform, clustered, of varying density, at a minimum distance."""

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np

Propose = Callable[[np.random.Generator, int], np.ndarray]

_MAX_IDLE_ROUNDS = 60  # without a new centre, after which the image counts as full
_N_WAVES = 6
# densest packing of discs and balls of diameter 1: centres per unit of area or volume
_MAX_PACKING = {2: 2 / math.sqrt(3), 3: math.sqrt(2)}


def uniform_positions(shape: Sequence[int]) -> Propose:
    """Centres anywhere between the centres of the first and the last pixel."""
    last = np.asarray(shape, np.float64) - 1

    def propose(rng: np.random.Generator, n: int) -> np.ndarray:
        return rng.random((n, len(last))) * last

    return propose


def cluster_positions(
    rng: np.random.Generator, shape: Sequence[int], n: int, *, size: float, spread: float
) -> Propose:
    """Centres around cluster centres (a Thomas process), reflected at the border of the image.

    Args:
      rng: Source of randomness for the cluster centres.
      shape: Spatial shape, pixels.
      n: Number of cells, which with `size` gives the number of clusters.
      size: Mean number of cells per cluster.
      spread: Standard deviation about the cluster's centre, per axis, pixels.
    """
    last = np.asarray(shape, np.float64) - 1
    cluster_centres = uniform_positions(shape)(rng, max(1, round(n / size)))

    def propose(rng: np.random.Generator, n: int) -> np.ndarray:
        chosen = (rng.random(n) * len(cluster_centres)).astype(np.int64)
        points = cluster_centres[chosen] + spread * rng.standard_normal((n, len(last)))
        period = np.maximum(2 * last, 1e-9)
        folded = np.mod(points, period)
        return np.where(folded > last, period - folded, folded)

    return propose


def mixture(first: Propose, second: Propose, share: float) -> Propose:
    """Each centre from `first` with probability `share`, else from `second`.

    Args:
      first: Draws centres.
      second: Draws centres.
      share: Between 0 and 1.
    """

    def propose(rng: np.random.Generator, n: int) -> np.ndarray:
        pick = rng.random(n) < share
        return np.where(pick[:, None], _draw(rng, first, n), _draw(rng, second, n))

    return propose


def density_waves(
    rng: np.random.Generator, shape: Sequence[int], *, crowding: float, centring: float
) -> Propose:
    """Centres whose density varies in a few waves about as long as the image.

    Args:
      rng: Source of randomness for the waves.
      shape: Spatial shape, pixels.
      crowding: Standard deviation of the density, fraction of its mean.
      centring: Mean drop of the density from the centre to the middle of a side, fraction.
    """
    uniform = uniform_positions(shape)
    half = np.maximum(np.asarray(shape, np.float64) - 1, 1) / 2
    waves = rng.standard_normal((_N_WAVES, len(shape))) * (3.0 / max(shape))
    phases = 2 * np.pi * rng.random(_N_WAVES)
    amplitude = crowding * math.sqrt(2 / _N_WAVES)
    highest = 1 + amplitude * _N_WAVES + centring * len(shape) / 3

    def propose(rng: np.random.Generator, n: int) -> np.ndarray:
        points = uniform(rng, n)
        angle = (points[:, None, :] * waves).sum(axis=-1) + phases
        density = 1 + amplitude * np.cos(angle).sum(axis=-1)
        density += centring * (1 / 3 - (points / half - 1) ** 2).sum(axis=-1)
        return points[rng.random(n) * highest < np.maximum(density, 0.02)]

    return propose


def place_cells(
    rng: np.random.Generator,
    propose: Propose,
    n: int,
    shape: Sequence[int],
    *,
    min_distance: Sequence[float],
) -> np.ndarray:
    """Exactly n centres, no two closer than the minimum distance.

    Random sequential placement in rounds: of many proposals, those are kept that are far enough
    from all centres placed before and from all earlier proposals of the round. A grid with at
    most one centre per cell finds the neighbours, so the work grows linearly with n.

    Args:
      rng: Source of randomness.
      propose: Draws candidates [m, ndim], at most as many as requested.
      n: Number of centres.
      shape: Spatial shape, pixels.
      min_distance: Per axis, pixels: sum((difference / min_distance) ** 2) >= 1 for every pair. All
        zero: no condition.

    Returns:
      Centres [n, ndim] float64.

    Raises:
      ValueError: No room for n centres.
    """
    if n > math.prod(shape):
        raise ValueError(f"{n} cells do not fit into {tuple(shape)}: more cells than pixels")
    if n == 0 or not any(min_distance):
        return _draw(rng, propose, n)
    unit = np.asarray(min_distance, np.float64)
    room = np.prod(np.asarray(shape, np.float64) / unit + 1)
    if n <= _MAX_PACKING[len(shape)] * room:
        placed = _place_in_rounds(rng, propose, n, shape, unit)
        if placed is not None:
            return placed
    raise ValueError(
        f"{n} cells at least {tuple(map(float, unit.round(2)))} pixels apart do not fit into "
        f"{tuple(shape)}; ask for fewer, or let them lie closer (overlap, min_distance)"
    )


def _place_in_rounds(
    rng: np.random.Generator, propose: Propose, n: int, shape: Sequence[int], unit: np.ndarray
) -> np.ndarray | None:
    """Centres [n, ndim] at least `unit` apart; None once no more fit."""
    ndim = len(shape)
    box = unit / math.sqrt(ndim)
    reach = math.ceil(math.sqrt(ndim))
    grid = np.full([int(s / b) + 1 + 2 * reach for s, b in zip(shape, box, strict=True)], -1)
    steps = np.array(list(itertools.product(range(-reach, reach + 1), repeat=ndim)))
    placed = np.zeros((0, ndim))
    idle_rounds = 0
    while len(placed) < n:
        fresh = _draw(rng, propose, 2 * (n - len(placed)) + 32)
        boxes = (fresh / box).astype(np.int64) + reach
        free = ~_too_close(fresh, boxes, steps, grid, placed, unit, len(placed))
        fresh, boxes = fresh[free], boxes[free]
        first = _first_of_each_box(boxes, grid.shape)
        fresh, boxes = fresh[first], boxes[first]
        order = np.arange(len(fresh))
        trial = np.full(grid.shape, -1)
        trial[tuple(boxes.T)] = order
        keep = ~_too_close(fresh, boxes, steps, trial, fresh, unit, order[:, None])
        fresh, boxes = fresh[keep][: n - len(placed)], boxes[keep][: n - len(placed)]
        grid[tuple(boxes.T)] = len(placed) + np.arange(len(fresh))
        idle_rounds = 0 if len(fresh) else idle_rounds + 1
        if idle_rounds == _MAX_IDLE_ROUNDS:
            return None
        placed = np.concatenate([placed, fresh])
    return placed


def _draw(rng: np.random.Generator, propose: Propose, n: int) -> np.ndarray:
    """n candidates from proposals that may return fewer than requested."""
    parts = [propose(rng, n)]
    while sum(map(len, parts)) < n:
        parts.append(propose(rng, n))
    return np.concatenate(parts)[:n]


def _first_of_each_box(boxes: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Indices, ascending, of the first candidate in each box of the grid."""
    flat = np.ravel_multi_index(tuple(boxes.T), shape)
    return np.sort(np.unique(flat, return_index=True)[1])


def _too_close(
    points: np.ndarray,
    boxes: np.ndarray,
    steps: np.ndarray,
    grid: np.ndarray,
    others: np.ndarray,
    unit: np.ndarray,
    before: int | np.ndarray,
) -> np.ndarray:
    """Whether each point lies too close to one of `others` with an index below `before`."""
    if not len(others) or not len(points):
        return np.zeros(len(points), bool)
    index = grid[tuple(np.moveaxis(boxes[:, None] + steps, -1, 0))]
    near = ((((points[:, None] - others[index]) / unit) ** 2).sum(axis=-1) < 1) & (index >= 0)
    return (near & (index < before)).any(axis=1)
