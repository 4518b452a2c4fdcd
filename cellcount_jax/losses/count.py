"""Loss of a count."""

import jax
import jax.numpy as jnp


def count_l1(z: jax.Array, count: jax.Array) -> jax.Array:
    """Absolute error of the count read from a feature map as its L1 norm.

    Args:
      z: Signed single-channel map of the counter, [B, h, w] or [B, h, w, 1]; its absolute value is
        the coarse density.
      count: True number of cells per image (the number of dots), [B], in cells.

    Returns:
      | sum |z| - count | per image, [B] float32, in cells. Reduce with a mean over real images.

    Raises:
      ValueError: Not a single-channel map, or batch sizes differ.

    Source: DCL (Zheng et al., MICCAI 2024), Eq. 1.
    """
    z, count = jnp.asarray(z), jnp.asarray(count)
    single_channel = z.ndim == 3 or (z.ndim == 4 and z.shape[-1] == 1)
    if not single_channel or count.shape != z.shape[:1]:
        raise ValueError(
            f"count_l1: z {z.shape} and count {count.shape} do not fit; "
            "expected [B, h, w] or [B, h, w, 1], and [B]"
        )
    predicted = jnp.abs(z.astype(jnp.float32)).sum(axis=tuple(range(1, z.ndim)))
    return jnp.abs(predicted - count.astype(jnp.float32))
