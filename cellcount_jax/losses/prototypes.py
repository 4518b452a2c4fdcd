"""Losses of the prototypes of CountXplain (MIDL 2025).

K prototypes of d channels, of which the first `n_cell` stand for cells, the rest for background.
"""

import jax
import jax.numpy as jnp

from cellcount_jax.losses.masked import mean_over_images

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
      distances: squared distances of every position to every prototype, [B, h, w, K].
      density: target density, [B, h, w].
      n_cell: how many of the K prototypes, from the first, stand for cells.
      reduction: over the prototypes of a group: "sum" (released code) or "mean" (paper).
      mask: images that count, [B]; None: all.

    Returns:
      Loss of the cell and of the background prototypes, float32 scalars, each the mean over images
      of the squared distance at the image's position, reduced over the group.

    Raises:
      ValueError: shapes do not fit, an empty group, or an unknown reduction.

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


def prototype_diversity(prototypes: jax.Array, *, n_cell: int, tau: float) -> jax.Array:
    """Penalty on pairs of prototypes of one group that point in nearly the same direction.

    Args:
      prototypes: [K, d].
      n_cell: how many of the K prototypes, from the first, stand for cells.
      tau: cosine similarity up to which a pair costs nothing.

    Returns:
      Mean over the ordered pairs of a group of max(0, cosine - tau), averaged over the cell and
      the background group, a float32 scalar. A group of fewer than two prototypes gives 0.

    Raises:
      ValueError: prototypes are not a matrix, or n_cell is not between 0 and K.

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
