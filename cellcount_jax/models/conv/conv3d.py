"""3-D convolution of the networks: stride 1, in the form that is quick where it is compiled."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.nn.initializers import Initializer

from cellcount_jax.models.conv import conv3d_cpu

FORMULATIONS = ("auto", "native", "depth_taps")

Pair = tuple[jax.Array, jax.Array]
"""Input and kernel, or the gradients for them."""


def conv3d(x: jax.Array, kernel: jax.Array, *, formulation: str = "auto") -> jax.Array:
    """3-D convolution with zero padding ("SAME") and stride 1, without a bias.

    Args:
      x: [B, D, H, W, C] volume.
      kernel: [kd, kh, kw, C, F] in the dtype of x.
      formulation: "native" is one call to XLA; "depth_taps" goes through the volume plane by plane,
        the kd planes around each joined along the channels for a 2-D convolution (its gradient for
        the kernel likewise by matrix products), which is several times faster on CPU and needs
        little memory; "auto" takes depth_taps where it is compiled for CPU, else native. They
        agree to rounding, gradients included.

    Returns:
      [B, D, H, W, F] in the dtype of x.

    Raises:
      ValueError: shapes or dtypes do not fit, or an unknown formulation.
    """
    if x.ndim != 5 or kernel.ndim != 5 or x.shape[-1] != kernel.shape[3] or x.dtype != kernel.dtype:
        raise ValueError(
            "conv3d takes [B, D, H, W, C] and a kernel [kd, kh, kw, C, F] of one dtype, got "
            f"{x.shape} {x.dtype} and {kernel.shape} {kernel.dtype}"
        )
    functions: dict[str, Callable[[jax.Array, jax.Array], jax.Array]] = {
        "auto": _auto,
        "native": _native,
        "depth_taps": _depth_taps,
    }
    if formulation not in functions:
        raise ValueError(f"conv3d formulation {formulation!r} is not one of {FORMULATIONS}")
    # Named, because rematerialisation cannot see a convolution in a choice of platforms.
    return checkpoint_name(functions[formulation](x, kernel), "convolution")


def _native(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1, 1), "SAME", dimension_numbers=("NDHWC", "DHWIO", "NDHWC")
    )


def _native_gradients(x: jax.Array, kernel: jax.Array, cotangent: jax.Array) -> Pair:
    return jax.vjp(_native, x, kernel)[1](cotangent)


@jax.custom_vjp
def _depth_taps(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return conv3d_cpu.convolve(x, kernel)


def _depth_taps_gradients(saved: Pair, cotangent: jax.Array) -> Pair:
    return conv3d_cpu.gradients(*saved, cotangent)


_depth_taps.defvjp(lambda x, kernel: (_depth_taps(x, kernel), (x, kernel)), _depth_taps_gradients)


# The choice is left to the lowering, so that a program compiled here for another platform is right
# too; the gradient is defined outside it, or both forms' intermediate results would be kept.
@jax.custom_vjp
def _auto(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return jax.lax.platform_dependent(x, kernel, cpu=conv3d_cpu.convolve, default=_native)


def _auto_gradients(saved: Pair, cotangent: jax.Array) -> Pair:
    return jax.lax.platform_dependent(
        *saved, cotangent, cpu=conv3d_cpu.gradients, default=_native_gradients
    )


_auto.defvjp(lambda x, kernel: (_auto(x, kernel), (x, kernel)), _auto_gradients)


class Conv3D(nn.Module):
    """3x3x3 convolution with zero padding and stride 1, computed by `conv3d`.

    Parameters are those of `flax.linen.Conv`: `kernel` [3, 3, 3, C, features] and `bias`.

    Attributes:
      features: number of output channels.
      kernel_init: of the kernel; the bias starts at 0.
      dtype: dtype of the computation and the output; parameters stay float32.
    """

    features: int
    kernel_init: Initializer = nn.initializers.lecun_normal()
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Features [B, D, H, W, features] of a volume [B, D, H, W, C]."""
        shape = (3, 3, 3, x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape).astype(self.dtype)
        bias = self.param("bias", nn.initializers.zeros, (self.features,)).astype(self.dtype)
        return conv3d(x.astype(self.dtype), kernel) + jnp.expand_dims(bias, (0, 1, 2, 3))
