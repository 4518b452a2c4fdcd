"""3x3 convolution with a quarter of the multiplications, for CPUs (Lavin and Gray, CVPR 2016).

Winograd's F(4x4, 3x3): a 4x4 tile of the output comes from a 6x6 tile of the input; both are
transformed, so that the convolution becomes a product at each of 36 places, summed over channels:
one matrix product per place over all tiles. The input's transform is sums along one axis, then
along the other, since it takes every pixel for more than one tile; the others are matrix products,
which compile in a moment and are as fast. Gradients are sums of the same form. The result is off by
about 1e-6 of its largest value in float32, five times as much as the plain sum; inputs of lower
precision are computed in float32.

Images are [B, H, W, C], kernels [3, 3, C, F], stride 1, zero padding 1.
"""

import functools
import operator
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

TILE = 4
"""Side of an output tile."""

SPAN = TILE + 2
"""Side of the input tile that it is made of; also the number of points."""

POINTS = (0.0, 2 / 3, -2 / 3, 3 / 2, -3 / 2)
"""Where the polynomials are evaluated, besides infinity. The usual 0, 1, -1, 2, -2 double the
rounding errors."""


def convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """The convolution, [B, H, W, F] in the dtype of x."""
    return result(transformed(x), weights(kernel), x.shape[1:3]).astype(x.dtype)


def weights(kernel: jax.Array) -> jax.Array:
    """The transformed kernel, [36, C, F] float32."""
    flat = kernel.reshape(9, *kernel.shape[2:]).astype(jnp.float32)
    return jnp.einsum("kl,lcf->kcf", _KERNEL, flat)


def transformed(x: jax.Array) -> jax.Array:
    """The transformed 6x6 tiles of an image, [36, B, h, w, C] float32."""
    _, H, W, _ = x.shape
    # One pixel before, as the convolution pads; after, as far as the last tile reaches.
    rows, columns = (TILE - 1 + -side % TILE for side in (H, W))
    tiles = _tiles(jnp.pad(x, ((0, 0), (1, rows), (1, columns), (0, 0))))
    # The last two rows and columns of a 6x6 tile are the next one's first.
    columns_of = tiles.swapaxes(0, 1)
    sums = _evaluated([*columns_of[..., :-1, :], *columns_of[: SPAN - TILE, ..., 1:, :]])
    rows_of = sums.swapaxes(0, 1)
    return _one_axis(_evaluated([*rows_of[..., :-1, :, :], *rows_of[: SPAN - TILE, ..., 1:, :, :]]))


def result(tiles: jax.Array, weights: jax.Array, sides: tuple[int, ...]) -> jax.Array:
    """The convolution, [B, *sides, F] float32, from transformed tiles and kernel."""
    return interpolated(multiplied(tiles, weights))[:, : sides[0], : sides[1]]


def multiplied(tiles: jax.Array, weights: jax.Array) -> jax.Array:
    """The products at the 36 places, [36, B, h, w, F] float32."""
    return jnp.einsum("kbhwc,kcf->kbhwf", tiles, weights)


def interpolated(products: jax.Array) -> jax.Array:
    """The convolution from them, [B, 4 h, 4 w, F] float32, beyond the image's sides too."""
    places = jnp.einsum("lk,kbhwf->lbhwf", _OUTPUT, products)
    _, B, h, w, F = places.shape
    rows = places.reshape(TILE, TILE, B, h, w, F).transpose(2, 3, 0, 4, 1, 5)
    return rows.reshape(B, TILE * h, TILE * w, F)


def grid(*sides: int) -> tuple[int, ...]:
    """Tiles along each side."""
    return tuple(-(-side // TILE) for side in sides)


def gradient_of_input(kernel: jax.Array, cotangent: jax.Array) -> jax.Array:
    """Gradient of `sum(convolve(x, kernel) * cotangent)` for x."""
    return convolve(cotangent, jnp.flip(kernel, (0, 1)).swapaxes(2, 3))


def gradient_of_kernel(x: jax.Array, cotangent: jax.Array) -> jax.Array:
    """Gradient of `sum(convolve(x, kernel) * cotangent)` for the kernel, in the dtype of x."""
    weights = weight_gradients(transformed(x), product_gradients(cotangent))
    return kernel_gradient(weights).astype(x.dtype)


def product_gradients(cotangent: jax.Array) -> jax.Array:
    """Gradient for the products at the 36 places, [36, B, h, w, F] float32."""
    _, H, W, _ = cotangent.shape
    whole = jnp.pad(cotangent, ((0, 0), (0, -H % TILE), (0, -W % TILE), (0, 0)))
    return jnp.einsum("lk,lbhwf->kbhwf", _OUTPUT, _one_axis(_tiles(whole)))


def weight_gradients(tiles: jax.Array, of_products: jax.Array) -> jax.Array:
    """Gradient for the transformed kernel, [36, C, F] float32, from both transforms."""
    return jnp.einsum("kbhwc,kbhwf->kcf", tiles, of_products)


def kernel_gradient(weights: jax.Array) -> jax.Array:
    """Gradient for the kernel [3, 3, C, F] from that for the transformed one."""
    return jnp.einsum("kl,kcf->lcf", _KERNEL, weights).reshape(3, 3, *weights.shape[1:])


def elements(x: jax.Array) -> int:
    """Number of values of the transformed image, all in memory at once."""
    B, H, W, C = x.shape
    return SPAN**2 * B * int(np.prod(grid(H, W))) * C


def _tiles(x: jax.Array) -> jax.Array:
    """The places of the 4x4 tiles side by side, [4, 4, B, h, w, C] float32."""
    B, H, W, C = x.shape
    cells = x.reshape(B, H // TILE, TILE, W // TILE, TILE, C)
    return cells.transpose(2, 4, 0, 1, 3, 5).astype(jnp.float32)


def _evaluated(places: Sequence[jax.Array]) -> jax.Array:
    """The input's transform along one axis, [6, ...] from its six places."""
    terms = [
        [float(weight) * place for weight, place in zip(row, places, strict=True) if weight]
        for row in _INPUT
    ]
    return jnp.stack([functools.reduce(operator.add, row) for row in terms])


def _one_axis(places: jax.Array) -> jax.Array:
    return places.reshape(-1, *places.shape[2:])


def _matrices(points: Sequence[float]) -> list[np.ndarray]:
    """Matrices of the transforms of input [6, 6] (one axis), kernel [36, 9] and output [16, 36]
    (both).

    Toom and Cook: the polynomials of input and kernel are evaluated at the points and at infinity,
    multiplied there, and Lagrange's interpolation, transposed, gives the input's transform.
    """
    p = np.asarray(points)
    others = [np.delete(p, i) for i in range(len(p))]
    scales = np.array([np.prod(point - other) for point, other in zip(p, others, strict=True)])
    infinity = np.zeros((SPAN, 1))
    infinity[-1] = 1
    output = np.hstack([p[None, :] ** np.arange(TILE)[:, None], infinity[-TILE:]])
    kernel = np.vstack([p[:, None] ** np.arange(3) / scales[:, None], infinity[-3:].T])
    given = np.zeros((SPAN, SPAN))
    for row, roots in enumerate([*others, p]):
        coefficients = np.poly(roots)[::-1]
        given[row, : len(coefficients)] = coefficients
    both = [np.kron(one, one) for one in (kernel, output)]
    return [matrix.astype(np.float32) for matrix in (given, *both)]


_INPUT, _KERNEL, _OUTPUT = _matrices(POINTS)
