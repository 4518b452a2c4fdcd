"""Losses of the prototypes of CountXplain (MIDL 2025).

K prototypes of d channels, of which the first `n_cell` stand for cells, the rest for background.
"""

import jax
import jax.numpy as jnp
import numpy as np

from cellcount_jax.losses.masked import mean_over_images

EMPTY_SHARE = 0.1
"""Fraction of an image's positions, the emptiest, to which background prototypes are drawn."""

_NORM_FLOOR = 1e-12
"""Least length that a prototype is divided by, as in PyTorch's `normalize`."""


def prototype_to_feature(
    distances: jax.Array,
    density: jax.Array,
    *,
    n_cell: int,
    reduction: str = "sum",
    mask: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Pulls cell prototypes to the feature where an image is densest, the others to the emptiest.

    Each image gives one position per group, the flat argmax and argmin of its target, the first on
    ties.

    Args:
      distances: Squared distances of every position to every prototype, [B, h, w, K].
      density: Target density, [B, h, w].
      n_cell: How many of the K prototypes, from the first, stand for cells.
      reduction: Over the prototypes of a group: "sum" (released code) or "mean" (paper).
      mask: Images that count, [B]; None: all.

    Returns:
      Loss of the cell and of the background prototypes, float32 scalars, each the mean over images
      of the squared distance at the image's position, reduced over the group.

    Raises:
      ValueError: Shapes do not fit, an empty group, or an unknown reduction.

    Source: CountXplain (MIDL 2025), prototype-to-feature loss.
    """
    distances, density = jnp.asarray(distances), jnp.asarray(density)
    if distances.ndim != 4 or density.shape != distances.shape[:3]:
        raise ValueError(
            f"prototype_to_feature: distances {distances.shape} and density {density.shape} do not "
            "fit; expected [B, h, w, K] and [B, h, w]"
        )
    batch, _, _, n_prototypes = distances.shape
    if not 0 < n_cell < n_prototypes:
        raise ValueError(
            f"prototype_to_feature: n_cell is {n_cell}; with {n_prototypes} prototypes it must "
            f"lie between 1 and {n_prototypes - 1}"
        )
    if reduction not in ("sum", "mean"):
        raise ValueError(f"prototype_to_feature: reduction {reduction!r} is not 'sum' or 'mean'")
    flat = distances.astype(jnp.float32).reshape(batch, -1, n_prototypes)

    def pull(position: jax.Array, group: slice) -> jax.Array:
        there = jnp.take_along_axis(flat, position[:, None, None], axis=1)[:, 0, group]
        per_image = there.sum(axis=1) if reduction == "sum" else there.mean(axis=1)
        return mean_over_images(per_image, mask)

    density = density.reshape(batch, -1)
    cell = pull(density.argmax(axis=1), slice(None, n_cell))
    return cell, pull(density.argmin(axis=1), slice(n_cell, None))


def prototype_to_peaks(
    distances: jax.Array,
    density: jax.Array,
    *,
    n_cell: int,
    key: jax.Array,
    mask: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Sends each prototype of a group to a place of its own in every image.

    Cell prototypes share the highest separate peaks of the target among them, background
    prototypes as many random ones of its emptiest tenth, so that the sum of squared distances is
    least (one each). With one prototype of cells their loss is that of `prototype_to_feature`.

    Args:
      distances: Squared distances of every position to every prototype, [B, h, w, K].
      density: Target density, [B, h, w].
      n_cell: How many of the K prototypes, from the first, stand for cells.
      key: Chooses among the empty places.
      mask: Images that count, [B]; None: all.

    Returns:
      Loss of the cell and of the background prototypes, float32 scalars: mean over images of the
      sum over the group.
    """
    batch, height, width, n_prototypes = distances.shape
    flat = distances.astype(jnp.float32).reshape(batch, height * width, n_prototypes)
    highest = jax.lax.reduce_window(density, -jnp.inf, jax.lax.max, (1, 3, 3), (1, 1, 1), "SAME")
    # Where an image has fewer peaks than there are prototypes, the highest other places follow.
    peaks = jnp.where(density >= highest, density + density.max(), density)
    noise = jax.random.uniform(key, density.shape)
    level = jnp.quantile(density.reshape(batch, -1), EMPTY_SHARE, axis=1)[:, None, None]
    empty = jnp.where(density <= level, noise, -1.0)

    def pull(score: jax.Array, group: slice) -> jax.Array:
        costs = flat[..., group]
        _, places = jax.lax.top_k(score.reshape(batch, -1), costs.shape[-1])
        costs = jnp.take_along_axis(costs, places[..., None], axis=1)
        return mean_over_images(jax.vmap(_least_assignment)(costs), mask)

    return pull(peaks, slice(None, n_cell)), pull(empty, slice(n_cell, None))


def _least_assignment(costs: jax.Array) -> jax.Array:
    """Least sum of costs [n, n] with one of each row and column."""
    # Imported here: counting loads this module with its method, and has no other need of optax.
    from optax.assignment import hungarian_algorithm

    rows, columns = hungarian_algorithm(jax.lax.stop_gradient(costs))
    return costs[rows, columns].sum()


def prototype_separation(prototypes: jax.Array, *, n_cell: int, margin: float) -> jax.Array:
    """Penalty on pairs of prototypes of one group that are nearer than a distance.

    Its gradient has the same length however near two are, in place of the cosine's, which vanishes
    when they are parallel; coincident ones are parted along fixed directions.

    Args:
      prototypes: [K, d].
      n_cell: How many of the K prototypes, from the first, stand for cells.
      margin: Squared distance from which a pair costs nothing.

    Returns:
      Mean over the pairs of a group of max(0, 1 - distance / sqrt(margin)), averaged over the two
      groups, a float32 scalar. A group of fewer than two prototypes gives 0.
    """
    size, channels = prototypes.shape
    # A direction of its own for each, too short to matter unless two coincide.
    apart = prototypes.astype(jnp.float32) + 1e-3 * jnp.eye(size, channels)

    def group(rows: jax.Array) -> jax.Array:
        first, second = np.triu_indices(len(rows), 1)
        if not len(first):
            return jnp.zeros((), jnp.float32)
        distance = jnp.sqrt(jnp.square(rows[first] - rows[second]).sum(axis=1))
        return jax.nn.relu(1.0 - distance / margin**0.5).mean()

    return (group(apart[:n_cell]) + group(apart[n_cell:])) / 2


def prototype_diversity(prototypes: jax.Array, *, n_cell: int, tau: float) -> jax.Array:
    """Penalty on pairs of prototypes of one group that point in nearly the same direction.

    Args:
      prototypes: [K, d].
      n_cell: How many of the K prototypes, from the first, stand for cells.
      tau: Cosine similarity up to which a pair costs nothing.

    Returns:
      Mean over the ordered pairs of a group of max(0, cosine - tau), averaged over the cell and
      the background group, a float32 scalar. A group of fewer than two prototypes gives 0.

    Raises:
      ValueError: Prototypes are not a matrix, or n_cell is not between 0 and K.

    Source: CountXplain (MIDL 2025), Eq. 7, with normalised prototypes as in its released code.
    """
    prototypes = jnp.asarray(prototypes)
    if prototypes.ndim != 2:
        raise ValueError(f"prototype_diversity: prototypes {prototypes.shape}; expected [K, d]")
    if not 0 <= n_cell <= prototypes.shape[0]:
        raise ValueError(
            f"prototype_diversity: n_cell is {n_cell}, but prototypes are {prototypes.shape}"
        )
    prototypes = prototypes.astype(jnp.float32)
    # The square root of a floored square, so that a prototype of zeros has a gradient (of zero).
    square = jnp.square(prototypes).sum(axis=1, keepdims=True)
    unit = prototypes / jnp.sqrt(jnp.maximum(square, _NORM_FLOOR**2))

    def group(rows: jax.Array) -> jax.Array:
        size = rows.shape[0]
        if size < 2:
            return jnp.zeros((), jnp.float32)
        cosine = jnp.matmul(rows, rows.T, precision=jax.lax.Precision.HIGHEST)
        excess = jax.nn.relu(cosine - tau) * (1.0 - jnp.eye(size))
        return excess.sum() / (size * (size - 1))

    return (group(unit[:n_cell]) + group(unit[n_cell:])) / 2
