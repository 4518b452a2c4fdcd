"""Maps whose peaks are easier to tell apart: averaged over mirror images, and sharpened.

A network trained by squared errors predicts the mean of what it holds possible, so two close cells
become one ridge with a single top. Neither function here is part of a published method; both are
switches of the prediction and need no other training.
"""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

REACH = 4.0
"""Gaussians are cut off after so many standard deviations."""


def mean_over_views(predict: Callable[[jax.Array], jax.Array], images: jax.Array) -> jax.Array:
    """Mean of the maps of all mirror images and, where a plane is square, quarter turns.

    Args:
      predict: images [B, *space, C] -> map [B, *space].
      images: the same.

    Returns:
      [B, *space]: 8 views of a square image, 16 of a volume, half as many if not square; one
      after the other, so that they need the memory of one.
    """
    ndim = images.ndim - 2
    swap = images.shape[ndim - 1] == images.shape[ndim]
    bits = np.indices((2,) * (ndim + swap)).reshape(ndim + swap, -1).T.astype(bool)

    def turned(x: jax.Array, chosen: jax.Array, *, back: bool) -> jax.Array:
        changes: list[Callable[[jax.Array], jax.Array]] = [
            functools.partial(jnp.flip, axis=axis + 1) for axis in range(ndim)
        ]
        if swap:
            changes.append(functools.partial(jnp.swapaxes, axis1=ndim - 1, axis2=ndim))
        order = range(len(changes))
        for i in reversed(order) if back else order:
            x = jnp.where(chosen[i], changes[i](x), x)
        return x

    def add(total: jax.Array, chosen: jax.Array) -> tuple[jax.Array, None]:
        output = predict(turned(images, chosen, back=False))
        return total + turned(output, chosen, back=True), None

    total, _ = jax.lax.scan(add, jnp.zeros(images.shape[:-1], jnp.float32), jnp.asarray(bits))
    return total / len(bits)


def sharpened(map: jax.Array, *, sigma: Sequence[float]) -> jax.Array:
    """How far a map rises above its own blur, times its height; 0 where it does not.

    The rise parts the tops of a ridge, the height keeps ripples of the ground low.

    Args:
      map: [B, *space], not negative.
      sigma: standard deviations of the blur in pixels, one per space axis.
    """
    blurred = map
    for axis, s in enumerate(sigma, start=1):
        blurred = _blur(blurred, axis, s)
    return jnp.maximum(map - blurred, 0.0) * map


def _blur(x: jax.Array, axis: int, sigma: float) -> jax.Array:
    """Gaussian along one axis as a sum of shifted maps; the outermost values go on outside."""
    reach = max(1, round(REACH * sigma))
    taps = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    taps /= taps.sum()
    padded = jnp.pad(x, [(reach, reach) if a == axis else (0, 0) for a in range(x.ndim)], "edge")
    size, blurred = x.shape[axis], jnp.zeros_like(x)
    for i, tap in enumerate(taps):
        blurred += float(tap) * jax.lax.slice_in_dim(padded, i, i + size, axis=axis)
    return blurred
