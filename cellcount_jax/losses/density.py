"""Loss of a density map."""

import jax
import jax.numpy as jnp

from cellcount_jax.losses.masked import mean_over_images


def density_mse(
    predicted: jax.Array,
    target: jax.Array,
    *,
    scale: float = 1.0,
    mask: jax.Array | None = None,
    weight: jax.Array | None = None,
) -> jax.Array:
    """Mean squared error of two maps, both multiplied by `scale` first.

    Args:
      predicted: Density map, [B, ...], cells per position.
      target: Density map of the same shape.
      scale: Factor on both maps; 1 is the formula of the paper (and for maps that are scaled
        already), 100 that of its released code.
      mask: Images that count, [B]; None: all.
      weight: Factor on the squared error of each position, of the shape of the maps; None: 1.

    Returns:
      Mean over all positions of weight (scale predicted - scale target)^2, a float32 scalar.

    Raises:
      ValueError: Shapes differ.

    Source: CountXplain (MIDL 2025), density loss; CSRNet (CVPR 2018) with scale 1.
    """
    predicted, target = jnp.asarray(predicted), jnp.asarray(target)
    if predicted.shape != target.shape:
        raise ValueError(
            f"density_mse: predicted {predicted.shape} and target {target.shape} differ in shape"
        )
    if weight is not None and weight.shape != target.shape:
        raise ValueError(
            f"density_mse: weight {weight.shape} and target {target.shape} differ in shape"
        )
    error = scale * predicted.astype(jnp.float32) - scale * target.astype(jnp.float32)
    squared = jnp.square(error) if weight is None else weight * jnp.square(error)
    return mean_over_images(squared.mean(axis=tuple(range(1, error.ndim))), mask)
