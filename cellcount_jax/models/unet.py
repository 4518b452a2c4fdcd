"""UNet (Ronneberger et al., MICCAI 2015) with batch norm, any depth and width, 2-D and 3-D."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cellcount_jax.models import layers
from cellcount_jax.models.conv.conv2d import Conv2D
from cellcount_jax.models.conv.conv3d import Conv3D


class UNet(nn.Module):
    """Two 3 x ... x 3 convolutions with batch norm and ReLU per level, skips, a linear head.

    At inference nothing depends on the rest of the image beyond the receptive field: batch norm
    uses running statistics, so an image may be cut into tiles without a change (see `halo`).

    Attributes:
      channels: Width of each level, finest first; sides must be multiples of `2**(levels - 1)`.
      dtype: Dtype of the computation; parameters and the output stay float32.
    """

    channels: Sequence[int] = (64, 128, 256, 512, 1024)
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(
        self, x: jax.Array, *, train: bool = False, mask: jax.Array | None = None
    ) -> jax.Array:
        """One map of the input's size.

        Args:
          x: [B, H, W, C] or [B, D, H, W, C], normalised image and further channels.
          train: Use and update batch statistics.
          mask: [B], 0 for padding rows, which are kept out of the batch statistics.

        Returns:
          [B, *space] float32, linear.

        Raises:
          ValueError: A side is not a multiple of the stride of the coarsest level.
        """
        stride = 2 ** (len(self.channels) - 1)
        if x.ndim not in (4, 5) or any(side % stride for side in x.shape[1:-1]):
            raise ValueError(
                f"UNet of {len(self.channels)} levels takes [B, H, W, C] or [B, D, H, W, C] with "
                f"sides that are multiples of {stride}, got {x.shape}"
            )
        x = x.astype(self.dtype)
        skips = []
        for level, width in enumerate(self.channels):
            if level:
                x = layers.max_pool(x)
            x = self._block(x, width, f"down{level}", train, mask)
            skips.append(x)
        for level in reversed(range(len(self.channels) - 1)):
            width = self.channels[level]
            # Before the upsampling, which it commutes with: a quarter of the pixels, or less.
            one = (1,) * (x.ndim - 2)
            up = nn.Conv(width, one, use_bias=False, dtype=self.dtype, name=f"up{level}")(x)
            up = layers.upsample_bilinear(up, 2)
            x = jnp.concatenate([skips[level], up], axis=-1)
            x = self._block(x, width, f"merge{level}", train, mask)
        head = nn.Conv(
            1, (1,) * (x.ndim - 2), kernel_init=nn.initializers.normal(0.01), name="head"
        )
        return head(x.astype(jnp.float32))[..., 0]

    def _block(
        self, x: jax.Array, width: int, name: str, train: bool, mask: jax.Array | None
    ) -> jax.Array:
        conv = Conv2D if x.ndim == 4 else Conv3D
        for i in range(2):
            # The bias would be cancelled by the batch norm that follows.
            x = conv(width, use_bias=False, dtype=self.dtype, name=f"{name}_{i}")(x)
            norm: dict[str, Any] = {"dtype": self.dtype, "name": f"{name}_norm{i}"}
            x = nn.relu(layers.batch_norm(x, train=train, mask=mask, **norm))
        return x


def halo(levels: int) -> int:
    """Pixels of context on each side of a tile that its output can see, a multiple of the stride.

    Exact for tiles that begin at multiples of the stride: on the way down, two 3x3 convolutions a
    level see two pixels further and pooling halves that; on the way up, the bilinear upsampling
    doubles it and sees one more, the convolutions another two.
    """
    reach = 0
    for _ in range(levels):
        reach = -(-reach // 2) + 2
    for _ in range(levels - 1):
        reach = 2 * reach + 1 + 2
    stride = 2 ** (levels - 1)
    return -(-reach // stride) * stride
