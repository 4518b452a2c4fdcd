"""Layers shared by the networks: upsampling, pooling, transposed convolution, norms. Channel-last.

XLA's own transposed convolutions are slow on CPU, and so is the gradient of its max pool; each is
written here in a form that is fast there and exact everywhere.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name
from jax.nn.initializers import Initializer

glorot = nn.initializers.glorot_uniform()


def upsample_bilinear(x: jax.Array, factor: int, *, align_corners: bool = False) -> jax.Array:
    """Linear interpolation along every spatial axis, to `factor` times the size.

    Args:
      x: [B, H, W, C]; a volume [B, D, H, W, C] is interpolated along its depth too.
      factor: Whole number of output pixels per input pixel, at least 1.
      align_corners: False: pixels are squares and the outer half pixels repeat the border; True:
        the centres of the corner pixels stay where they are. Both as PyTorch's `interpolate`.

    Returns:
      [B, factor H, factor W, C], in the dtype of x (float32 for integers).

    Raises:
      ValueError: `x` has no spatial axis or an empty one, or the factor is not a whole number of at
        least 1.
    """
    if x.ndim < 3 or 0 in x.shape[1:-1]:
        raise ValueError(f"upsampling takes [B, *space, C] with space not empty, got {x.shape}")
    if factor != int(factor) or factor < 1:
        raise ValueError(f"upsampling takes a whole factor of at least 1, got {factor}")
    if not jnp.issubdtype(x.dtype, jnp.floating):
        x = x.astype(jnp.float32)
    along = _upsample_aligned if align_corners else _upsample_half_pixel
    for axis in range(1, x.ndim - 1):
        x = along(x, int(factor), axis)
    return x


def _upsample_half_pixel(x: jax.Array, factor: int, axis: int) -> jax.Array:
    """The `factor` outputs within a pixel are fixed mixtures of it and one neighbour each."""
    size = x.shape[axis]
    first = jax.lax.slice_in_dim(x, 0, 1, axis=axis)
    last = jax.lax.slice_in_dim(x, size - 1, size, axis=axis)
    before = jnp.concatenate([first, jax.lax.slice_in_dim(x, 0, size - 1, axis=axis)], axis)
    after = jnp.concatenate([jax.lax.slice_in_dim(x, 1, size, axis=axis), last], axis)
    phases = []
    for phase in range(factor):
        shift = (phase + 0.5) / factor - 0.5  # from the input pixel's centre, in input pixels
        neighbour = before if shift < 0 else after
        phases.append(x * (1 - abs(shift)) + neighbour * abs(shift))
    shape = (*x.shape[:axis], size * factor, *x.shape[axis + 1 :])
    return jnp.stack(phases, axis + 1).reshape(shape)


def _upsample_aligned(x: jax.Array, factor: int, axis: int) -> jax.Array:
    """Product with a matrix: the mixtures differ from pixel to pixel."""
    size = x.shape[axis]
    position = np.linspace(0, size - 1, size * factor)
    weight = np.maximum(0, 1 - np.abs(position[:, None] - np.arange(size)))
    mixed = jax.lax.dot_general(
        x,
        jnp.asarray(weight, x.dtype),
        (((axis,), (1,)), ((), ())),
        precision=jax.lax.Precision.HIGHEST,
        preferred_element_type=jnp.float32,
    )
    return jnp.moveaxis(mixed, -1, axis).astype(x.dtype)


def max_pool(x: jax.Array) -> jax.Array:
    """Largest value of each 2 x ... x 2 cell of [B, *space, C]; of equals one has the gradient.

    Raises:
      ValueError: A spatial side is odd.
    """
    if any(side % 2 for side in x.shape[1:-1]):
        raise ValueError(f"max pool by 2 takes even sides, got {x.shape}")
    for axis in range(1, x.ndim - 1):
        x = _larger_of_pairs(x, axis)
    return checkpoint_name(x, "pool")


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _larger_of_pairs(x: jax.Array, axis: int) -> jax.Array:
    """The larger of positions 0 and 1, 2 and 3, ... along an axis; NaN where either is.

    Which one it was is kept for the gradient. To look for it again, as the gradient of `max` does,
    fails in a compiled step: XLA computes the values anew, rounds them differently, and where no
    value equals the maximum the gradient is lost.
    """
    return _choose(x, axis)[0]


def _choose(x: jax.Array, axis: int) -> tuple[jax.Array, jax.Array]:
    pairs = x.reshape(*x.shape[:axis], x.shape[axis] // 2, 2, *x.shape[axis + 1 :])
    first, second = (jax.lax.index_in_dim(pairs, i, axis + 1, keepdims=False) for i in (0, 1))
    chosen = (first >= second) | jnp.isnan(first)
    return jnp.where(chosen, first, second), chosen


def _to_chosen(axis: int, chosen: jax.Array, gradient: jax.Array) -> tuple[jax.Array]:
    none = jnp.zeros_like(gradient)
    sides = (jnp.where(chosen, gradient, none), jnp.where(chosen, none, gradient))
    shape = list(gradient.shape)
    shape[axis] *= 2
    return (jnp.stack(sides, axis + 1).reshape(shape),)


_larger_of_pairs.defvjp(_choose, _to_chosen)


class UpConv2x(nn.Module):
    """Transposed convolution with 2 x ... x 2 taps and stride 2, for images and volumes.

    Every input pixel becomes a cell of 2 x ... x 2 outputs: out[2i + a, 2j + b] = x[i, j] .
    kernel[a, b] + bias, one matrix product and a change of shape. Parameters: `kernel`
    [2, ..., 2, C, features] in the order of that formula, and `bias`.

    Attributes:
      features: Number of output channels.
      dtype: Dtype of the computation and the output; parameters stay float32.
    """

    features: int
    kernel_init: Initializer = glorot
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, *space, C] to [B, *(2 space), features]."""
        ndim = x.ndim - 2
        shape = (*(2,) * ndim, x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape).astype(self.dtype)
        bias = self.param("bias", nn.initializers.zeros, (self.features,)).astype(self.dtype)
        y = jnp.tensordot(x.astype(self.dtype), kernel, axes=(-1, ndim))  # [B, *space, *taps, F]
        interleaved = [axis for i in range(1, ndim + 1) for axis in (i, i + ndim)]
        y = y.transpose(0, *interleaved, y.ndim - 1)
        y = y.reshape(x.shape[0], *(2 * side for side in x.shape[1:-1]), self.features)
        return y + _per_channel(bias, y.ndim)


class InstanceNorm(nn.Module):
    """Mean 0 and variance 1 per image and channel, then a learned `scale` and `bias` per channel.

    What `flax.linen.InstanceNorm` computes, faster on CPUs.

    Attributes:
      epsilon: Added to the variance.
      dtype: Dtype of the output; statistics and parameters are float32.
    """

    epsilon: float = 1e-6
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, *space, C], the same shape."""
        scale = self.param("scale", nn.initializers.ones, x.shape[-1:])
        bias = self.param("bias", nn.initializers.zeros, x.shape[-1:])
        values, space = x.astype(jnp.float32), tuple(range(1, x.ndim - 1))
        mean = values.mean(space, keepdims=True)
        # The mean of squares less the squared mean would lose digits where the variance is small.
        variance = jnp.square(values - mean).mean(space, keepdims=True)
        # The compiler must not see that the same differences are wanted twice: it would write them
        # to memory and read them again, which takes longer than to subtract anew.
        mean = jax.lax.optimization_barrier(mean)
        scale, bias = _per_channel(scale, x.ndim), _per_channel(bias, x.ndim)
        normed = (values - mean) * (jax.lax.rsqrt(variance + self.epsilon) * scale) + bias
        return normed.astype(self.dtype)


def _per_channel(values: jax.Array, ndim: int) -> jax.Array:
    """[C] as [1, ..., 1, C], to meet arrays of `ndim` axes."""
    return values.reshape((1,) * (ndim - 1) + (-1,))


def norm(
    x: jax.Array,
    kind: str,
    *,
    train: bool,
    mask: jax.Array | None = None,
    dtype: jnp.dtype = jnp.float32,
    name: str = "norm",
) -> jax.Array:
    """Norm with learned scale and offset, created within the calling module's compact method.

    Args:
      x: [B, *space, C].
      kind: "instance", per image and channel (epsilon 1e-6), or "batch" (epsilon 1e-3, momentum
        0.9; running statistics unless in training).
      train: Use and update the statistics of the batch; an instance norm ignores it.
      mask: [B], 0 for padding rows, which are kept out of the batch statistics.
      dtype: Dtype of the result; statistics are float32.
      name: Name of the parameters `scale` and `bias`.

    Raises:
      ValueError: An unknown kind.
    """
    if kind == "instance":
        return InstanceNorm(dtype=dtype, name=name)(x)
    if kind != "batch":
        raise ValueError(f'norm {kind!r} is not one of ("instance", "batch")')
    exact = {"epsilon": 1e-3, "use_fast_variance": False}
    return batch_norm(x, train=train, mask=mask, dtype=dtype, name=name, **exact)


def batch_norm(
    x: jax.Array, *, train: bool, mask: jax.Array | None, epsilon: float = 1e-5, **options: Any
) -> jax.Array:
    """Batch norm with momentum 0.9, created within the calling module's compact method.

    Args:
      x: [B, *space, C].
      train: Use and update the statistics of the batch, which in global view is the whole one.
      mask: [B], 0 for padding rows, which are kept out of the statistics; None: all rows are real.
      epsilon: Added to the variance.
      **options: Options of `flax.linen.BatchNorm`, such as `dtype` and `name`.
    """
    rows = None if mask is None else mask.astype(bool).reshape(-1, *(1,) * (x.ndim - 1))
    module = nn.BatchNorm(momentum=0.9, epsilon=epsilon, **options)
    return module(x, use_running_average=not train, mask=rows)
