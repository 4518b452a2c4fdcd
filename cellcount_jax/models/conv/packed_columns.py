"""3x3 convolution from few channels to few, for CPUs.

XLA's own runs at full speed from about 32 output channels on, and at a tenth of it from an image's
one to three channels to 8. Here `group` adjacent pixels of a row, with one more on each side, are
taken as one pixel of many channels, and so are the `group` output pixels: the kernel from one to
the other is a band matrix of the given one, 0 elsewhere.

Images are [B, H, W, C], kernels [3, 3, C, F], stride 1, zero padding 1.
"""

import jax
import jax.numpy as jnp
import numpy as np


def convolve(x: jax.Array, kernel: jax.Array, group: int) -> jax.Array:
    """The convolution, [B, H, W, F] in the dtype of x.

    Args:
      x: Images of fixed size.
      kernel: Kernel in the dtype of x.
      group: Output pixels that are computed as one, at least 2.
    """
    B, H, W, C = x.shape
    F, groups = kernel.shape[-1], -(-W // group)
    # One pixel before, as the convolution pads; after, up to whole groups and one group more.
    padded = jnp.pad(x, ((0, 0), (0, 0), (1, group * (groups + 1) - W - 1), (0, 0)))
    cells = padded.reshape(B, H, groups + 1, group * C)
    joined = jnp.concatenate([cells[:, :, :-1], cells[:, :, 1:, : 2 * C]], axis=-1)
    found = jax.lax.conv_general_dilated(
        joined,
        _band(kernel, group),
        (1, 1),
        ((1, 1), (0, 0)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    return found.reshape(B, H, groups * group, F)[:, :, :W]


def _band(kernel: jax.Array, group: int) -> jax.Array:
    """[3, 1, (group + 2) C, group F]: output pixel i of a group sees pixels i, i + 1 and i + 2."""
    _, _, C, F = kernel.shape
    seen = np.stack([np.eye(group + 2, group, -tap) for tap in range(3)])  # [tap, given, made]
    band = jnp.einsum("kim,rkcf->ricmf", seen.astype(kernel.dtype), kernel)
    return band.reshape(3, 1, (group + 2) * C, group * F)
