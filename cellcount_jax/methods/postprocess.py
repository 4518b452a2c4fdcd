"""Maps whose peaks are easier to separate: averaged over mirror images, and unsharp-masked.

A network trained with squared errors predicts the mean of what is possible, so two close cells
become one ridge with a single peak. Neither function here is part of a published method; both are
switches of the prediction and need no other training.
"""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from cellcount_jax.losses.gaussian_blur import gaussian_blur
from cellcount_jax.methods.base import MakeTarget

CUTOFF = 4.0
"""Gaussians are truncated at this many standard deviations."""

Predict = Callable[[jax.Array], jax.Array]


def with_test_time_augmentation(predict: Predict, images: jax.Array) -> jax.Array:
    """Mean of the maps of all mirror images and, where a plane is square, quarter turns.

    Args:
      predict: Images [B, *space, C] -> map [B, *space].
      images: The same.

    Returns:
      [B, *space]: over 8 views of a square image, 16 of a volume, half as many if not square; one
      after the other, so that they need the memory of one.
    """
    ndim = images.ndim - 2
    square = images.shape[ndim - 1] == images.shape[ndim]
    changes = [functools.partial(jnp.flip, axis=axis + 1) for axis in range(ndim)]
    if square:
        changes.append(functools.partial(jnp.swapaxes, axis1=ndim - 1, axis2=ndim))
    views = np.indices((2,) * len(changes)).reshape(len(changes), -1).T.astype(bool)

    def changed(x: jax.Array, view: jax.Array, order: Sequence[int]) -> jax.Array:
        for i in order:
            x = jnp.where(view[i], changes[i](x), x)
        return x

    def add(total: jax.Array, view: jax.Array) -> tuple[jax.Array, None]:
        order = range(len(changes))
        output = predict(changed(images, view, order))
        return total + changed(output, view, order[::-1]), None

    total, _ = jax.lax.scan(add, jnp.zeros(images.shape[:-1], jnp.float32), jnp.asarray(views))
    return total / len(views)


def sharpened_target(target: MakeTarget, *, sigma: Sequence[float]) -> MakeTarget:
    """The function that makes `unsharp_peaks` of the map that `target` makes."""

    def make(dots: np.ndarray, shape: Sequence[int]) -> np.ndarray:
        return np.asarray(unsharp_peaks(jnp.asarray(target(dots, shape))[None], sigma=sigma)[0])

    return make


def unsharp_peaks(map: jax.Array, *, sigma: Sequence[float]) -> jax.Array:
    """How far a map rises above its own blur, times its height; 0 where it does not.

    The rise separates the tops of a ridge, the height keeps ripples of the background low.

    Args:
      map: [B, *space], non-negative.
      sigma: Standard deviations of the blur in pixels, one per space axis.
    """
    blurred = map
    for axis, s in enumerate(sigma, start=1):
        radius = max(1, round(CUTOFF * s))
        blurred = gaussian_blur(blurred, axis=axis, sigma=s, radius=radius, border="edge")
    return jnp.maximum(map - blurred, 0.0) * map
