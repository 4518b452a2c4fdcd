"""Bilinear interpolation weights at fractional positions, for `message_passing`.

Positions are (y, x) in pixels of a grid, [B, H, W, M, 2]. With padding "border" they are moved into
the grid, with "zeros" neighbours outside it have weight 0.
"""

import jax
import jax.numpy as jnp


def matrix(shape: tuple[int, ...], positions: jax.Array) -> jax.Array:
    """Weight of each pixel in the sum of the M samples of each position; the padding is "border".

    Args:
      shape: (B, H, W, C) of the features.
      positions: [B, H, W, M, 2].

    Returns:
      [B, H W, H W] float32: position, then pixel.
    """
    batch, height, width, _ = shape
    positions = positions.reshape(batch, height * width, -1, 2)
    y = _hats(positions[..., 0], height)
    x = _hats(positions[..., 1], width)
    weights = jnp.einsum("bpmy,bpmx->bpyx", y, x, precision=jax.lax.Precision.HIGHEST)
    return weights.reshape(batch, height * width, height * width)


def _hats(coordinate: jax.Array, size: int) -> jax.Array:
    """Weight of each of `size` rows (or columns) for each coordinate, [..., size]."""
    low, fraction = _split(coordinate, size, "border")
    pixel = jnp.arange(size).reshape((1,) * coordinate.ndim + (size,))
    low, fraction = low[..., None], fraction[..., None]
    return jnp.where(pixel == low, 1.0 - fraction, 0.0) + jnp.where(pixel == low + 1, fraction, 0.0)


def corners(
    shape: tuple[int, ...], positions: jax.Array, padding: str
) -> tuple[jax.Array, jax.Array]:
    """Flat index and weight of the four neighbours of each sample.

    Args:
      shape: (B, H, W, C) of the features.
      positions: [B, H, W, M, 2].
      padding: "border" or "zeros".

    Returns:
      Index into the H W pixels, int32, and weight, float32; both [B, H W, 4 M].
    """
    batch, height, width, _ = shape
    positions = positions.reshape(batch, height * width, -1, 2)
    y, y_fraction = _split(positions[..., 0], height, padding)
    x, x_fraction = _split(positions[..., 1], width, padding)
    index, weight = [], []
    for row, row_weight in ((y, 1.0 - y_fraction), (y + 1, y_fraction)):
        for column, column_weight in ((x, 1.0 - x_fraction), (x + 1, x_fraction)):
            inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            index.append(jnp.where(inside, row * width + column, 0))
            weight.append(jnp.where(inside, row_weight * column_weight, 0.0))
    flat = (batch, height * width, -1)
    return jnp.stack(index, axis=-1).reshape(flat), jnp.stack(weight, axis=-1).reshape(flat)


def _split(coordinate: jax.Array, size: int, padding: str) -> tuple[jax.Array, jax.Array]:
    """Pixel at or before a coordinate, and the fraction of a pixel beyond it.

    The pixel after it may be `size` and, with "zeros", the pixel itself -1 or `size`: such
    neighbours do not exist and have weight 0.
    """
    low, high = (0, size - 1) if padding == "border" else (-1, size)
    coordinate = coordinate.astype(jnp.float32)
    # Not jnp.clip: it would pass half of the gradient on where the coordinate lies on the limit.
    limited = jax.lax.stop_gradient(jnp.clip(coordinate, low, high))
    coordinate = jnp.where((coordinate > low) & (coordinate < high), coordinate, limited)
    pixel = jax.lax.stop_gradient(jnp.floor(coordinate))
    return pixel.astype(jnp.int32), coordinate - pixel
