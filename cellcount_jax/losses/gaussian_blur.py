"""Gaussian blur along one axis, the same on every device."""

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np


def gaussian_blur(
    x: jax.Array, *, axis: int, sigma: float, radius: int, border: Literal["edge", "zeros"]
) -> jax.Array:
    """Gaussian along one axis, cut off and normalised to sum 1.

    Shifted sums instead of a convolution: exact zeros stay exact, no device rounds them to a
    lower precision, and a volume costs the taps of three axes instead of their product.

    Args:
      x: Any shape.
      axis: Axis to blur along.
      sigma: Standard deviation in positions.
      radius: Positions to each side after which the Gaussian is cut off.
      border: Values beyond the ends: the outermost ones, or zeros.
    """
    taps = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    taps /= taps.sum()
    widths = [(radius, radius) if a == axis else (0, 0) for a in range(x.ndim)]
    padded = jnp.pad(x, widths, "edge" if border == "edge" else "constant")
    size, blurred = x.shape[axis], jnp.zeros_like(x)
    for i, tap in enumerate(taps):
        blurred += float(tap) * jax.lax.slice_in_dim(padded, i, i + size, axis=axis)
    return blurred
