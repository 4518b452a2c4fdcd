"""Random crops, mosaics, flips, rotations and intensity changes, inside the jitted step.

All maps of a row (image, target, raster of dots) are transformed alike. Works for [B, H, W, ...]
and [B, D, H, W, ...]; rotations are in the plane of the last two space axes.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp


def random_crop(
    key: jax.Array, maps: Mapping[str, jax.Array], sizes: jax.Array, crop: Sequence[int]
) -> dict[str, jax.Array]:
    """Crops each row at a random position inside its real size.

    Args:
      key: Random key.
      maps: Arrays by name, [B, *space] or [B, *space, C].
      sizes: Real size of each row without padding, [B, ndim].
      crop: Side per space axis; at most that of the padded rows.

    Returns:
      Arrays by name, [B, *crop] or [B, *crop, C].
    """
    ndim = len(crop)
    room = jnp.maximum(sizes - jnp.asarray(crop)[None], 0)
    corner = jax.random.randint(key, room.shape, 0, room + 1)

    def cut(row: jax.Array, start: jax.Array) -> jax.Array:
        rest = row.shape[ndim:]
        starts = [*start, *([0] * len(rest))]
        return jax.lax.dynamic_slice(row, starts, (*crop, *rest))

    return {name: jax.vmap(cut)(value, corner) for name, value in maps.items()}


def random_flips_and_rotations(
    key: jax.Array, maps: Mapping[str, jax.Array], *, ndim: int
) -> dict[str, jax.Array]:
    """Flips each row at random along each space axis, and swaps the last two if they are equal.

    Together these are all eight symmetries of the square, including rotations by 90 degrees.

    Args:
      key: Random key.
      maps: Arrays by name, [B, *space] or [B, *space, C], the same space for all.
      ndim: Number of space axes, 2 or 3.

    Returns:
      Maps of the same shapes.
    """
    rows = next(iter(maps.values())).shape[0]
    space = next(iter(maps.values())).shape[1 : ndim + 1]
    chosen = jax.random.bernoulli(key, shape=(ndim + 1, rows))
    swap = space[-1] == space[-2]

    def change(value: jax.Array) -> jax.Array:
        def where(i: int, changed: jax.Array, value: jax.Array) -> jax.Array:
            return jnp.where(chosen[i].reshape(-1, *([1] * (value.ndim - 1))), changed, value)

        for axis in range(ndim):
            value = where(axis, jnp.flip(value, axis + 1), value)
        if swap:
            value = where(ndim, jnp.swapaxes(value, ndim - 1, ndim), value)
        return value

    return {name: change(value) for name, value in maps.items()}


def random_mosaics(
    key: jax.Array, maps: Mapping[str, jax.Array], *, probability: float
) -> dict[str, jax.Array]:
    """Turns rows into mosaics: a quadrant of the row itself and one of each of the three before it.

    Every quadrant stays in its corner, so that borders and size are those of real images. The
    count of a mosaic is the number of dots in its quadrants.

    Args:
      key: Random key.
      maps: Arrays by name, [B, H, W] or [B, H, W, C], the same space for all.
      probability: Probability that a row becomes a mosaic.

    Returns:
      Maps of the same shapes.
    """
    rows, height, width = next(iter(maps.values())).shape[:3]
    chosen = jax.random.bernoulli(key, probability, (rows,))
    top, left = slice(height // 2), slice(width // 2)
    bottom, right = slice(height // 2, None), slice(width // 2, None)

    def change(value: jax.Array) -> jax.Array:
        before = [jnp.roll(value, i, axis=0) for i in range(4)]
        upper = jnp.concatenate([before[0][:, top, left], before[1][:, top, right]], axis=2)
        lower = jnp.concatenate([before[2][:, bottom, left], before[3][:, bottom, right]], axis=2)
        mosaic = jnp.concatenate([upper, lower], axis=1)
        return jnp.where(chosen.reshape(-1, *([1] * (value.ndim - 1))), mosaic, value)

    return {name: change(value) for name, value in maps.items()}


def random_contrast_and_offset(
    key: jax.Array, image: jax.Array, *, ndim: int, contrast: float, offset: float
) -> jax.Array:
    """Scales the contrast of each row about its mean, and adds an offset.

    Args:
      key: Random key.
      image: Images [B, *space, C].
      ndim: Number of space axes.
      contrast: The factor is uniform between 1 - contrast and 1 + contrast.
      offset: The offset is uniform between -offset and offset.
    """
    rows = (image.shape[0], *([1] * (image.ndim - 1)))
    key_a, key_b = jax.random.split(key)
    factor = jax.random.uniform(key_a, rows, minval=1 - contrast, maxval=1 + contrast)
    shift = jax.random.uniform(key_b, rows, minval=-offset, maxval=offset)
    mean = image.mean(axis=tuple(range(1, ndim + 1)), keepdims=True)
    return (image - mean) * factor + mean + shift


class IntensityJitter(NamedTuple):
    """Largest random intensity changes of an image normalised to about unit standard deviation.

    Attributes:
      contrast: Relative change of the contrast about the mean of a row.
      offset: Largest intensity offset.
      gamma: The exponent lies between 1 / (1 + gamma) and 1 + gamma.
      noise: Standard deviation of added Gaussian noise.
      blur: Fraction of an image that is replaced by its blur over three pixels.
      colour: Relative change of the contrast, and offset, of each channel on its own.
      sharpness: Fraction of the difference from its blur over three pixels that is added, or
        subtracted if negative.
    """

    contrast: float = 0.0
    offset: float = 0.0
    gamma: float = 0.0
    noise: float = 0.0
    blur: float = 0.0
    colour: float = 0.0
    sharpness: float = 0.0


NO_JITTER = IntensityJitter()
"""Changes nothing."""


def random_intensity(
    key: jax.Array, image: jax.Array, *, ndim: int, jitter: IntensityJitter
) -> jax.Array:
    """Changes the intensities of each row as another camera, stain or focus would.

    Args:
      key: Random key.
      image: Images [B, *space, C].
      ndim: Number of space axes.
      jitter: Largest changes; 0 switches one off.
    """
    if jitter.contrast or jitter.offset:
        image = random_contrast_and_offset(
            key, image, ndim=ndim, contrast=jitter.contrast, offset=jitter.offset
        )
    keys = jax.random.split(jax.random.fold_in(key, 1), 5)
    rows, space = (image.shape[0], *([1] * (image.ndim - 1))), tuple(range(1, ndim + 1))
    if jitter.colour and image.shape[-1] > 1:
        channels = (*rows[:-1], image.shape[-1])
        factor = 1 + jitter.colour * jax.random.uniform(keys[0], channels, minval=-1.0)
        shift = jitter.colour * jax.random.uniform(keys[1], channels, minval=-1.0)
        mean = image.mean(axis=space, keepdims=True)
        image = (image - mean) * factor + mean + shift
    if jitter.gamma:
        exponent = jnp.exp(jnp.log1p(jitter.gamma) * jax.random.uniform(keys[2], rows, minval=-1.0))
        low = image.min(axis=(*space, -1), keepdims=True)
        height = jnp.maximum(image.max(axis=(*space, -1), keepdims=True) - low, 1e-6)
        image = low + height * jnp.maximum((image - low) / height, 1e-6) ** exponent
    if jitter.blur:
        share = jitter.blur * jax.random.uniform(keys[3], rows)
        image = (1 - share) * image + share * _binomial(image, ndim)
    if jitter.sharpness:
        key_c = jax.random.fold_in(key, 2)
        share = jitter.sharpness * jax.random.uniform(key_c, rows, minval=-1.0)
        image = image + share * (image - _binomial(image, ndim))
    if jitter.noise:
        key_a, key_b = jax.random.split(keys[4])
        deviation = jitter.noise * jax.random.uniform(key_a, rows)
        image = image + deviation * jax.random.normal(key_b, image.shape, image.dtype)
    return image


def _binomial(image: jax.Array, ndim: int) -> jax.Array:
    """The image blurred over three pixels along each space axis, with repeated edges."""
    for axis in range(1, ndim + 1):
        n = image.shape[axis]
        index = jnp.arange(n)
        before = jnp.take(image, jnp.maximum(index - 1, 0), axis=axis)
        after = jnp.take(image, jnp.minimum(index + 1, n - 1), axis=axis)
        image = (before + 2 * image + after) / 4
    return image
