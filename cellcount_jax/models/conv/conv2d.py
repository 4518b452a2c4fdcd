"""2-D convolution of the networks: 3x3, stride 1, in the form that is fast where it is compiled.

XLA's convolution does every multiplication; on a CPU `winograd` does a quarter of them, and
`packed_columns` is faster where channels are few.
"""

import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.export
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.nn.initializers import Initializer

from cellcount_jax.models.conv import packed_columns, winograd
from cellcount_jax.models.conv.by_platform import Convolve, Pair, by_platform

WINOGRAD_CHANNELS = 32
"""Least number of input and output channels for Winograd's form; with fewer, the transforms take
longer than the multiplications they save."""

WINOGRAD_CHANNELS_TO_FEWER = 64
"""Least number of input channels if there are fewer output channels: the transform of the input
costs the most."""

PACKED_CHANNELS, PACKED_FEATURES = 7, 31
"""Input and output channels up to which XLA's own convolution is slow."""

WINOGRAD_GRADIENT_CHANNELS = 16
"""Least number of input and output channels for the kernel's gradient, for which XLA is slow."""

MAX_ELEMENTS = 2**26
"""Maximum size of the transformed image, 256 MiB; larger images are left to XLA, which needs less
memory."""


def conv2d(
    x: jax.Array, kernel: jax.Array, *, dilation: int = 1, formulation: str = "auto"
) -> jax.Array:
    """3x3 convolution with zero padding that keeps the size, stride 1, without a bias.

    Args:
      x: [B, H, W, C] images.
      kernel: [3, 3, C, F] in the dtype of x.
      dilation: Distance between the taps.
      formulation: "native" is one call to XLA; "winograd" multiplies a quarter as often; "packed"
        takes several pixels of a row as one; "auto" takes native except on a CPU, where it takes
        the fastest for these channels, for the result and each gradient. They agree to 1e-5 of the
        largest value, gradients included.

    Returns:
      [B, H, W, F] in the dtype of x.

    Raises:
      ValueError: Shapes or dtypes do not fit, or an unknown formulation.
    """
    if x.ndim != 4 or kernel.shape[:3] != (3, 3, x.shape[-1]) or x.dtype != kernel.dtype:
        raise ValueError(
            "conv2d takes [B, H, W, C] and a kernel [3, 3, C, F] of one dtype, got "
            f"{x.shape} {x.dtype} and {kernel.shape} {kernel.dtype}"
        )
    if formulation == "auto":
        y = _auto(dilation)(x, kernel)
    elif formulation in FORMS:
        y = FORMS[formulation](x, kernel, dilation)
    else:
        raise ValueError(f"conv2d formulation {formulation!r} is not auto, {', '.join(FORMS)}")
    # Named, because rematerialisation cannot see a convolution in a choice of platforms.
    return checkpoint_name(y, "convolution")


def _native(x: jax.Array, kernel: jax.Array, dilation: int) -> jax.Array:
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (1, 1),
        "SAME",
        rhs_dilation=(dilation, dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def _native_gradients(
    x: jax.Array, kernel: jax.Array, cotangent: jax.Array, *, dilation: int
) -> Pair:
    return jax.vjp(lambda x, kernel: _native(x, kernel, dilation), x, kernel)[1](cotangent)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _winograd(x: jax.Array, kernel: jax.Array, dilation: int) -> jax.Array:
    split = winograd.convolve(_split(x, dilation), kernel)
    return _joined(split, x.shape, dilation)


def _winograd_gradients(
    x: jax.Array, kernel: jax.Array, cotangent: jax.Array, *, dilation: int
) -> Pair:
    split = _split(cotangent, dilation)
    of_input = _joined(winograd.gradient_of_input(kernel, split), x.shape, dilation)
    return of_input, winograd.gradient_of_kernel(_split(x, dilation), split)


_winograd.defvjp(
    lambda x, kernel, dilation: (_winograd(x, kernel, dilation), (x, kernel)),
    lambda dilation, saved, g: _winograd_gradients(saved[0], saved[1], g, dilation=dilation),
)


def _packed(x: jax.Array, kernel: jax.Array, dilation: int) -> jax.Array:
    # Up to 32 output channels; more would only multiply by more zeros.
    group = max(2, 32 // kernel.shape[-1])
    split = packed_columns.convolve(_split(x, dilation), kernel, group)
    return _joined(split, x.shape, dilation)


FORMS: dict[str, Callable[[jax.Array, jax.Array, int], jax.Array]] = {
    "native": _native,
    "winograd": _winograd,
    "packed": _packed,
}
"""The forms of the convolution, each (x, kernel, dilation) -> y."""


def _on_cpu(x: jax.Array, kernel: jax.Array, *, dilation: int) -> jax.Array:
    channels, features = kernel.shape[2:]
    if _has_sides(x) and channels <= PACKED_CHANNELS and features <= PACKED_FEATURES:
        return _packed(x, kernel, dilation)
    faster = _fits(x, kernel) and _is_faster(channels, features)
    return (_winograd if faster else _native)(x, kernel, dilation)


def _gradients_on_cpu(
    x: jax.Array, kernel: jax.Array, cotangent: jax.Array, *, dilation: int
) -> Pair:
    channels, features = kernel.shape[2:]
    fits = _fits(x, kernel)
    of_input = fits and _is_faster(features, channels)
    of_kernel = fits and min(channels, features) >= WINOGRAD_GRADIENT_CHANNELS
    native = _native_gradients(x, kernel, cotangent, dilation=dilation)
    if not (of_input or of_kernel):
        return native  # Tracing the other form of every layer would take seconds.
    # The compiler drops the gradients that are not used.
    other = _winograd_gradients(x, kernel, cotangent, dilation=dilation)
    return (other if of_input else native)[0], (other if of_kernel else native)[1]


def _is_faster(n_in: int, n_out: int) -> bool:
    """Whether Winograd's form is faster on a CPU for these numbers of channels."""
    return min(n_in, n_out) >= WINOGRAD_CHANNELS and (
        n_in <= n_out or n_in >= WINOGRAD_CHANNELS_TO_FEWER
    )


def _has_sides(x: jax.Array) -> bool:
    """Whether the sides are known: those of a network exported for any size are symbols."""
    return not any(jax.export.is_symbolic_dim(n) for n in x.shape)


def _fits(x: jax.Array, kernel: jax.Array) -> bool:
    """Whether the larger transformed image of Winograd's form has at most `MAX_ELEMENTS` values."""
    if not _has_sides(x):
        return False
    channels, features = kernel.shape[2:]
    return winograd.elements(x) // channels * max(channels, features) <= MAX_ELEMENTS


@functools.cache
def _auto(dilation: int) -> Convolve:
    return by_platform(
        functools.partial(_native, dilation=dilation),
        functools.partial(_on_cpu, dilation=dilation),
        functools.partial(_gradients_on_cpu, dilation=dilation),
    )


def _split(x: jax.Array, d: int) -> jax.Array:
    """Every d-th pixel of rows and columns as a separate image, [B d d, H/d, W/d, C].

    Taps d apart are adjacent there. Sides are padded with zeros to multiples of d.
    """
    if d == 1:
        return x
    B, H, W, C = x.shape
    x = jnp.pad(x, ((0, 0), (0, -H % d), (0, -W % d), (0, 0)))
    h, w = x.shape[1] // d, x.shape[2] // d
    return x.reshape(B, h, d, w, d, C).transpose(0, 2, 4, 1, 3, 5).reshape(B * d * d, h, w, C)


def _joined(x: jax.Array, shape: tuple[int, ...], d: int) -> jax.Array:
    """The images of `_split` put together to the rows and columns of a shape."""
    if d == 1:
        return x
    _, h, w, F = x.shape
    x = x.reshape(-1, d, d, h, w, F).transpose(0, 3, 1, 4, 2, 5).reshape(-1, h * d, w * d, F)
    return x[:, : shape[1], : shape[2]]


class Conv2D(nn.Module):
    """3x3 convolution with zero padding that keeps the size, computed by `conv2d`.

    Parameters are those of `flax.linen.Conv`: `kernel` [3, 3, C, features] and `bias`.

    Attributes:
      features: Number of output channels.
      dilation: Distance between the taps.
      use_bias: Add a bias per output channel.
      kernel_init: Initializer of the kernel; the bias starts at 0.
      dtype: Dtype of the computation and the output; parameters stay float32.
    """

    features: int
    dilation: int = 1
    use_bias: bool = True
    kernel_init: Initializer = nn.initializers.lecun_normal()
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Features [B, H, W, features] of images [B, H, W, C]."""
        shape = (3, 3, x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape).astype(self.dtype)
        y = conv2d(x.astype(self.dtype), kernel, dilation=self.dilation)
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, (self.features,))
            y += bias.astype(self.dtype)[None, None, None]
        return y
