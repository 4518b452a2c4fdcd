"""VGG-16 and VGG-19 feature extractors (Simonyan and Zisserman, ICLR 2015), plain or batch norm."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.nn.initializers import Initializer

from cellcount_jax.models import layers
from cellcount_jax.models.conv.conv2d import Conv2D

CONVS_PER_STAGE: Mapping[int, tuple[int, ...]] = {16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
"""Convolutions in each of the five stages, by depth."""

CHANNELS = (64, 128, 256, 512, 512)
"""Channels of each stage at width 1."""

he_fan_out = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
"""He initialisation as torchvision has it: N(0, 2 / fan_out), not truncated."""


class VGG(nn.Module):
    """The convolutional part of VGG; stride 16, 512 channels at full depth and width.

    3x3 convolutions `conv{stage}_{i}` with zero padding 1, batch norm `norm{stage}_{i}` if asked
    for, ReLU; a 2x2 max pool (odd rows and columns dropped) between stages. Under `jax.jit` in
    global view the batch statistics are those of the whole batch, over all devices.

    Attributes:
      depth: 16 or 19.
      width: Multiplier of the channels.
      batch_norm: The variant with batch norm after each convolution.
      n_convs: Number of convolutions; None for all. 10 of depth 16 are CSRNet's front end.
      kernel_init: Initializer of the convolutions; biases start at 0.
      dtype: Dtype of the computation and the output; parameters and statistics stay float32.
    """

    depth: int = 19
    width: float = 1.0
    batch_norm: bool = False
    n_convs: int | None = None
    kernel_init: Initializer = he_fan_out
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(
        self, x: jax.Array, *, train: bool = False, mask: jax.Array | None = None
    ) -> jax.Array:
        """Features of normalised images.

        Args:
          x: [B, H, W, C].
          train: Use and update the statistics of the batch, if there is batch norm.
          mask: [B], 0 for padding rows, which are kept out of the batch statistics.

        Returns:
          [B, h, w, channels]; h and w are H and W halved, rounded down, once per pool.

        Raises:
          ValueError: Not a batch of images, an unknown depth, or an impossible `n_convs`.
        """
        if x.ndim != 4:
            raise ValueError(f"VGG takes images [B, H, W, C], got {x.shape}")
        x = x.astype(self.dtype)
        for name, channels in conv_channels(self.depth, self.width, self.n_convs).items():
            if name.endswith("_1") and _stage(name) > 1:
                x = _pool(x)
            x = Conv2D(channels, kernel_init=self.kernel_init, dtype=self.dtype, name=name)(x)
            if self.batch_norm:
                norm: dict[str, Any] = {"dtype": self.dtype, "name": norm_name(name)}
                x = layers.batch_norm(x, train=train, mask=mask, **norm)
            x = nn.relu(x)
        return x


def conv_channels(depth: int, width: float = 1.0, n_convs: int | None = None) -> dict[str, int]:
    """Output channels of each convolution by its name, in order of computation.

    Args:
      depth: 16 or 19.
      width: Multiplier of the channels.
      n_convs: Number of first convolutions; None for all.

    Raises:
      ValueError: An unknown depth, or `n_convs` outside 1 to the number of convolutions.
    """
    if depth not in CONVS_PER_STAGE:
        raise ValueError(f"VGG depth {depth} is not one of {sorted(CONVS_PER_STAGE)}")
    names = {
        f"conv{stage + 1}_{i + 1}": max(1, round(CHANNELS[stage] * width))
        for stage, convs in enumerate(CONVS_PER_STAGE[depth])
        for i in range(convs)
    }
    n_convs = len(names) if n_convs is None else n_convs
    if not 1 <= n_convs <= len(names):
        raise ValueError(f"VGG-{depth} has {len(names)} convolutions, n_convs is {n_convs}")
    return dict(list(names.items())[:n_convs])


def torch_indices(depth: int, batch_norm: bool, n_convs: int | None = None) -> dict[str, int]:
    """Index of each convolution in torchvision's `features`; its batch norm is the next module."""
    indices, index, stage = {}, 0, 1
    for name in conv_channels(depth, n_convs=n_convs):
        index += _stage(name) - stage  # the pool between stages
        stage = _stage(name)
        indices[name] = index
        index += 3 if batch_norm else 2
    return indices


def norm_name(conv: str) -> str:
    """Name of the batch norm after a convolution."""
    return conv.replace("conv", "norm")


def _stage(name: str) -> int:
    return int(name.removeprefix("conv").split("_")[0])


def _pool(x: jax.Array) -> jax.Array:
    height, width = (side - side % 2 for side in x.shape[1:3])
    return layers.max_pool(x[:, :height, :width])
