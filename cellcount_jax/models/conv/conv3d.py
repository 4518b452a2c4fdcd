"""3-D convolution of the networks: stride 1, in the form that is fast where it is compiled."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.nn.initializers import Initializer

from cellcount_jax.models.conv import conv3d_cpu
from cellcount_jax.models.conv.by_platform import by_platform


def conv3d(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """3-D convolution with zero padding ("SAME") and stride 1, without a bias.

    One call to XLA, except when compiled for a CPU: there `conv3d_cpu` is several times faster and
    needs little memory. Both agree to rounding, gradients included.

    Args:
      x: [B, D, H, W, C] volume.
      kernel: [kd, kh, kw, C, F] in the dtype of x.

    Returns:
      [B, D, H, W, F] in the dtype of x.

    Raises:
      ValueError: Shapes or dtypes do not fit.
    """
    if x.ndim != 5 or kernel.ndim != 5 or x.shape[-1] != kernel.shape[3] or x.dtype != kernel.dtype:
        raise ValueError(
            "conv3d takes [B, D, H, W, C] and a kernel [kd, kh, kw, C, F] of one dtype, got "
            f"{x.shape} {x.dtype} and {kernel.shape} {kernel.dtype}"
        )
    # Named, because rematerialisation cannot see a convolution in a choice of platforms.
    return checkpoint_name(_convolve(x, kernel), "convolution")


def native(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """The same in one call to XLA on every platform."""
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1, 1), "SAME", dimension_numbers=("NDHWC", "DHWIO", "NDHWC")
    )


_convolve = by_platform(native, conv3d_cpu.convolve, conv3d_cpu.gradients)


class Conv3D(nn.Module):
    """3x3x3 convolution with zero padding and stride 1, computed by `conv3d`.

    Parameters are those of `flax.linen.Conv`: `kernel` [3, 3, 3, C, features] and `bias`.

    Attributes:
      features: Number of output channels.
      use_bias: Whether there is a bias.
      kernel_init: Initializer of the kernel; the bias starts at 0.
      dtype: Dtype of the computation and the output; parameters stay float32.
    """

    features: int
    use_bias: bool = True
    kernel_init: Initializer = nn.initializers.lecun_normal()
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Features [B, D, H, W, features] of a volume [B, D, H, W, C]."""
        shape = (3, 3, 3, x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape).astype(self.dtype)
        out = conv3d(x.astype(self.dtype), kernel)
        if not self.use_bias:
            return out
        bias = self.param("bias", nn.initializers.zeros, (self.features,)).astype(self.dtype)
        return out + bias[None, None, None, None]
