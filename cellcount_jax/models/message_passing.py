"""Global message passing of DCL (MICCAI 2024): every position averages features it moves to.

A position p = (x, y) has M moving vectors (u, v), linear in its features; the message is the plain
mean of the features sampled bilinearly at p + (u, v). Images only: features are [B, H, W, C];
positions are (y, x) in pixels of the feature grid.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from cellcount_jax.models import bilinear

OFFSET_MOVED = "offset_moved"
"""Name in the collection `intermediates`: mean distance [B], in positions of the grid, of the
offsets of each image from where they are first spread."""

PADDINGS = ("border", "zeros")
FORMULATIONS = ("auto", "gather", "matmul")

MATMUL_POSITIONS = 4096
"""Largest grid, in positions, for which "auto" forms the matrix of weights."""

_MATMUL_BACKWARD_POSITIONS = 2048
"""Largest grid for which the gradient of "gather" goes through such matrices."""

_HIGHEST = jax.lax.Precision.HIGHEST


def bilinear_sample(
    features: jax.Array, positions: jax.Array, *, padding: str = "border"
) -> jax.Array:
    """Features at positions between the pixels, M of them per position of the grid.

    Args:
      features: [B, H, W, C].
      positions: [B, H, W, M, 2], (y, x) pixels of the grid, any finite value.
      padding: "border" moves positions into [0, H - 1] x [0, W - 1], and no gradient flows to a
        coordinate so moved; "zeros" takes neighbours outside the grid as 0.

    Returns:
      [B, H, W, M, C], in the dtype of the features.

    Raises:
      ValueError: Features of a volume, shapes that do not fit, or an unknown padding.
    """
    _check(features, positions)
    if padding not in PADDINGS:
        raise ValueError(f"padding {padding!r} is not one of {PADDINGS}")
    # Each sample is the sum over its four neighbours; `bilinear_mean` sums over those of all M.
    index, weight = (
        a.reshape(len(features), -1, 4)
        for a in bilinear.corners(features.shape, positions, padding)
    )
    samples = _gather_sum(_flat(features), index, weight)
    return samples.reshape(*positions.shape[:4], -1).astype(features.dtype)


def bilinear_mean(
    features: jax.Array, positions: jax.Array, *, formulation: str = "auto"
) -> jax.Array:
    """Mean over M of `bilinear_sample`, without holding the samples.

    Args:
      features: [B, H, W, C].
      positions: [B, H, W, M, 2], as in `bilinear_sample` with padding "border".
      formulation: "matmul" multiplies the features by a matrix of weights [B, H W, H W]; "gather"
        adds up the four neighbours of each sample one by one; "auto" is gather on CPU and for grids
        of more than `MATMUL_POSITIONS`, else matmul. They agree up to rounding, gradients included.

    Returns:
      [B, H, W, C], in the dtype of the features.

    Raises:
      ValueError: See `bilinear_sample`; or unknown formulation.
    """
    _check(features, positions)
    if formulation not in FORMULATIONS:
        raise ValueError(f"formulation {formulation!r} is not one of {FORMULATIONS}")
    flat = _flat(features)
    small = flat.shape[1] <= MATMUL_POSITIONS

    def gather(flat: jax.Array, positions: jax.Array) -> jax.Array:
        return _gather_sum(flat, *bilinear.corners(features.shape, positions, "border"))

    def matmul(flat: jax.Array, positions: jax.Array) -> jax.Array:
        weights = bilinear.matrix(features.shape, positions)
        return _product("bpq,bqc->bpc", weights.astype(flat.dtype), flat)

    if formulation == "matmul":
        total = matmul(flat, positions)
    elif formulation == "gather" or not small:
        total = gather(flat, positions)
    else:
        # Chosen at lowering: a step may be compiled for other devices than those of this process.
        total = jax.lax.platform_dependent(flat, positions, cpu=gather, default=matmul)
    return (total / positions.shape[3]).astype(features.dtype).reshape(features.shape)


class GlobalMessagePassing(nn.Module):
    """Adds to the features the mean of features sampled elsewhere.

    The paper gives one pair of embeddings (`n_samples=1`) yet speaks of a set of samples, and
    leaves units, borders and initialisation open. Here samples beyond the border are moved onto
    it, and their initial offsets are spread on a grid around the position itself, see `spread`; a
    single sample starts on the position.

    Attributes:
      n_samples: M, sampled positions per position of the grid.
      formulation: See `bilinear_mean`.
    """

    n_samples: int = 9
    formulation: str = "auto"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Message-passed features, of the shape [B, H, W, C] and dtype of x.

        Raises:
          ValueError: Features of a volume, or an unknown formulation.
        """
        if x.ndim != 4:
            kind = "images [B, H, W, C], not on a volume" if x.ndim == 5 else "[B, H, W, C], not"
            raise ValueError(f"message passing works on {kind} {x.shape}")
        _, height, width, _ = x.shape
        rows, columns = spread(self.n_samples, (height, width)).T
        offsets = jnp.stack([self._embed(x, rows, "v"), self._embed(x, columns, "u")], axis=-1)
        start = jnp.asarray(np.stack([rows, columns], axis=-1)[None, None, None])
        moved = jnp.linalg.norm(offsets - start, axis=-1).mean(axis=(1, 2, 3))
        self.sow("intermediates", OFFSET_MOVED, moved, reduce_fn=lambda _, new: new)
        own = jnp.stack(jnp.meshgrid(jnp.arange(height), jnp.arange(width), indexing="ij"), axis=-1)
        positions = own[None, :, :, None, :].astype(jnp.float32) + offsets
        return x + bilinear_mean(x, positions, formulation=self.formulation)

    def _embed(self, x: jax.Array, bias: np.ndarray, name: str) -> jax.Array:
        # Sub-pixel positions need float32, whatever the dtype of the features.
        return nn.Dense(
            self.n_samples,
            kernel_init=nn.initializers.normal(0.01),
            bias_init=lambda key, shape, dtype=jnp.float32: jnp.asarray(bias, dtype).reshape(shape),
            precision=jax.lax.Precision.HIGHEST,
            name=name,
        )(x.astype(jnp.float32))


def spread(n_samples: int, shape: tuple[int, int]) -> np.ndarray:
    """Offsets of n samples spread evenly around the origin, row by row.

    Args:
      n_samples: M; a square number gives a square grid, another one rows of nearly equal length.
      shape: (H, W) of the feature grid; the spacing is a side over (rows or columns + 1), a
        quarter of the side for 3 x 3.

    Returns:
      [M, 2] float32, (y, x) in pixels; their mean is 0.

    Raises:
      ValueError: No samples.
    """
    if n_samples < 1:
        raise ValueError(f"n_samples is {n_samples}; message passing needs at least 1")
    n_rows = int(n_samples**0.5 + 1e-9)
    lengths = [len(part) for part in np.array_split(np.arange(n_samples), n_rows)]
    y_step, x_step = shape[0] / (n_rows + 1), shape[1] / (max(lengths) + 1)
    y = np.concatenate([np.full(n, i * y_step) for i, n in enumerate(lengths)])
    x = np.concatenate([(np.arange(n) - (n - 1) / 2) * x_step for n in lengths])
    return np.stack([y - y.mean(), x], axis=-1).astype(np.float32)


@jax.custom_vjp
def _gather_sum(flat: jax.Array, index: jax.Array, weight: jax.Array) -> jax.Array:
    """Sum over K of weight times the features at an index: [B, N, C], [B, P, K] -> [B, P, C]."""
    total = jnp.zeros((*index.shape[:2], flat.shape[-1]), jnp.float32)
    # Term by term, so that XLA fuses all into one pass and never holds [B, P, K, C].
    for k in range(index.shape[-1]):
        rows = jnp.take_along_axis(flat, index[:, :, k, None], axis=1, mode="promise_in_bounds")
        total += rows.astype(jnp.float32) * weight[:, :, k, None]
    return total


def _gather_sum_forward(flat: jax.Array, index: jax.Array, weight: jax.Array):
    return _gather_sum(flat, index, weight), (flat, index, weight)


def _gather_sum_backward(residuals, cotangent: jax.Array):
    # Autodiff would scatter whole feature vectors, the slowest step of a training on CPU. Through
    # matrices [B, N, P] only single weights are scattered and read, the rest are two products.
    flat, index, weight = residuals
    n_from = flat.shape[1]
    if n_from > _MATMUL_BACKWARD_POSITIONS:
        return _scatter_backward(flat, index, weight, cotangent)
    to = jnp.arange(index.shape[1])[:, None]
    matrix = jax.vmap(lambda i, w: jnp.zeros((n_from, to.size)).at[i, to].add(w))(index, weight)
    d_flat = _product("bqp,bpc->bqc", matrix, cotangent)
    d_matrix = _product("bpc,bqc->bpq", cotangent, flat)
    d_weight = jnp.take_along_axis(d_matrix, index, axis=2, mode="promise_in_bounds")
    return d_flat.astype(flat.dtype), None, d_weight


def _scatter_backward(flat: jax.Array, index: jax.Array, weight: jax.Array, cotangent: jax.Array):
    """The gradient in memory that grows with the grid, not with its square."""

    def step(d_flat: jax.Array, column: tuple[jax.Array, jax.Array]):
        i, w = column
        rows = jnp.take_along_axis(flat, i[..., None], axis=1, mode="promise_in_bounds")
        add = jax.vmap(lambda total, i, d: total.at[i].add(d, mode="promise_in_bounds"))
        return add(d_flat, i, w[..., None] * cotangent), (rows * cotangent).sum(axis=-1)

    columns = (jnp.moveaxis(index, -1, 0), jnp.moveaxis(weight, -1, 0))
    d_flat, d_weight = jax.lax.scan(step, jnp.zeros(flat.shape, jnp.float32), columns)
    return d_flat.astype(flat.dtype), None, jnp.moveaxis(d_weight, 0, -1)


_gather_sum.defvjp(_gather_sum_forward, _gather_sum_backward)


def _product(subscripts: str, a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.einsum(subscripts, a, b, precision=_HIGHEST, preferred_element_type=jnp.float32)


def _flat(features: jax.Array) -> jax.Array:
    return features.reshape(features.shape[0], -1, features.shape[-1])


def _check(features: jax.Array, positions: jax.Array) -> None:
    if features.ndim == 5:
        raise ValueError(f"sampling works on images [B, H, W, C], not a volume {features.shape}")
    if (
        features.ndim != 4
        or positions.ndim != 5
        or positions.shape[:3] != features.shape[:3]
        or positions.shape[-1] != 2
    ):
        raise ValueError(
            f"features {features.shape} and positions {positions.shape} do not fit; "
            "expected [B, H, W, C] and [B, H, W, M, 2]"
        )
