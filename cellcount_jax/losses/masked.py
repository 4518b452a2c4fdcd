"""Means over the real images of a batch, without its padding rows."""

import jax
import jax.numpy as jnp


def image_mask(mask: jax.Array, batch: int) -> jax.Array:
    """`mask` as float32 [B].

    Raises:
      ValueError: Not one value per image.
    """
    mask = jnp.asarray(mask)
    if mask.shape != (batch,):
        raise ValueError(f"mask {mask.shape} does not fit a batch of {batch}; expected ({batch},)")
    return mask.astype(jnp.float32)


def mean_over_images(per_image: jax.Array, mask: jax.Array | None) -> jax.Array:
    """Mean of values [B] over the images that `mask` [B] marks with 1; None: over all."""
    if mask is None:
        return per_image.mean()
    mask = image_mask(mask, per_image.shape[0])
    return (per_image * mask).sum() / jnp.maximum(mask.sum(), 1.0)
