"""SAU-Net (Guo et al., ACM BCB 2019) for images and volumes, a UNet with self-attention at its end.

With instance norm it is the network of the inverse distance kernel with focal consistency (Guo et
al., MOVI 2022), which trains it with noise on the features between encoder and decoder.
"""

import functools
from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from cellcount_jax.models import layers
from cellcount_jax.models.attention import SelfAttention
from cellcount_jax.models.conv.conv2d import Conv2D
from cellcount_jax.models.conv.conv3d import Conv3D

DROPOUT = {"instance": 0.3, "batch": 0.5}
"""Dropout of the attention weights that goes with each norm (MOVI 2022; ACM BCB 2019)."""

NOISE_LEVELS = ("all", "last")


class SAUNet(nn.Module):
    """Two blocks per level on the way down and up, attention at the coarsest, one map as output.

    Every output pixel depends on the whole input: the network cannot be cut into tiles.

    A block is a 3 x ... x 3 convolution, ReLU, then norm. Levels are max-pooled by 2 and brought
    back by transposed convolutions (with ReLU and norm), concatenated to the skips. The head is a
    linear map to one channel and a ReLU.

    Attributes:
      ndim: 2 for images, 3 for volumes.
      base_channels: Width of the finest level, doubled at each coarser one.
      levels: Number of levels; sides must be multiples of `2**(levels - 1)`.
      norm: "instance" or "batch".
      dropout: Share of the attention weights dropped in training; None: `DROPOUT` of the norm.
      dtype: Dtype of the computation; parameters and the output stay float32.
    """

    ndim: int
    base_channels: int = 32
    levels: int = 4
    norm: str = "instance"
    dropout: float | None = None
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        *,
        train: bool = False,
        mask: jax.Array | None = None,
        noise: Callable[[list[jax.Array]], list[jax.Array]] | None = None,
    ) -> jax.Array:
        """One map of the input's size.

        Args:
          x: [B, *space, C] normalised images.
          train: Attention dropout (random stream "dropout") and, with batch norm, the use and
            update of batch statistics.
          mask: [B], 0 for padding rows, which are kept out of batch statistics.
          noise: Applied to the features of all levels, finest first, between encoder and decoder,
            for example `functools.partial(inject_noise, key, rows=is_unlabelled)`.

        Returns:
          [B, *space] float32, non-negative.

        Raises:
          ValueError: An unknown norm, or a side that is not a multiple of the stride of the
            coarsest level.
        """
        self._check(x.shape)
        block = functools.partial(Block, norm=self.norm, dtype=self.dtype)
        widths = [self.base_channels * 2**level for level in range(self.levels)]
        features = []
        for level, width in enumerate(widths):
            x = layers.max_pool(x) if level else x.astype(self.dtype)
            for i in range(2):
                x = block(width, name=f"down{level}_{i}")(x, train=train, mask=mask)
            features.append(x)
        attention = SelfAttention(
            norm=self.norm,
            dropout=DROPOUT[self.norm] if self.dropout is None else self.dropout,
            out_bias=self.ndim == 3,  # as the released networks have it
            dtype=self.dtype,
            name="attention",
        )
        features[-1] = attention(x, train=train, mask=mask)
        features = noise(features) if noise is not None else features
        x = features[-1]
        for level, width in reversed(list(enumerate(widths[:-1]))):
            up = block(width, upsample=True, name=f"up{level}_transpose")
            x = jnp.concatenate([features[level], up(x, train=train, mask=mask)], axis=-1)
            for i in range(2):
                x = block(width, name=f"up{level}_{i}")(x, train=train, mask=mask)
        head = nn.Dense(1, kernel_init=layers.glorot, name="head")
        return nn.relu(head(x.astype(jnp.float32)))[..., 0]

    def _check(self, shape: tuple[int, ...]) -> None:
        if self.ndim not in (2, 3) or self.norm not in DROPOUT:
            raise ValueError(
                f"SAUNet takes ndim 2 or 3 and a norm of {sorted(DROPOUT)}, got {self.ndim} and "
                f"{self.norm!r}"
            )
        stride = 2 ** (self.levels - 1)
        if len(shape) != self.ndim + 2 or any(n < stride or n % stride for n in shape[1:-1]):
            space = "[B, H, W, C]" if self.ndim == 2 else "[B, D, H, W, C]"
            raise ValueError(
                f"SAUNet of {self.levels} levels takes {space} with sides that are multiples of "
                f"{stride} and at least {stride}, got {shape}: pad it"
            )


class Block(nn.Module):
    """Convolution `conv`, ReLU, norm `norm`, in this order.

    Attributes:
      features: Number of output channels.
      norm: "instance" or "batch", see `layers.norm`.
      upsample: The convolution is the transposed one that doubles the size, not 3 x ... x 3.
      dtype: Dtype of the computation and the output; parameters stay float32.
    """

    features: int
    norm: str
    upsample: bool = False
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(
        self, x: jax.Array, *, train: bool = False, mask: jax.Array | None = None
    ) -> jax.Array:
        """[B, *space, C] to [B, *space, features] (twice the space if upsampled)."""
        conv: nn.Module
        if self.upsample:
            conv = layers.UpConv2x(self.features, dtype=self.dtype, name="conv")
        elif x.ndim == 5:
            conv = Conv3D(self.features, kernel_init=layers.glorot, dtype=self.dtype, name="conv")
        else:
            conv = Conv2D(self.features, kernel_init=layers.glorot, dtype=self.dtype, name="conv")
        x = nn.relu(conv(x))
        return layers.norm(x, self.norm, train=train, mask=mask, dtype=self.dtype)


def inject_noise(
    key: jax.Array,
    features: Sequence[jax.Array],
    *,
    rows: jax.Array | None = None,
    levels: str = "all",
    amplitude: float = 1.0,
) -> list[jax.Array]:
    """Encoder features times 1 + U(-amplitude, amplitude), the same noise for all rows.

    It is drawn per position and channel.

    Args:
      key: Random key.
      features: [B, *space, C] of each level, finest first.
      rows: [B], nonzero for the rows to disturb; None: all. The others are returned as they are.
      levels: "all" levels, as released with MOVI 2022, or the "last" one, as its text has it.
      amplitude: Largest relative change, 1 as released; 0: none.

    Returns:
      Features of the same shapes and dtypes.

    Raises:
      ValueError: An unknown choice of levels.
    """
    if levels not in NOISE_LEVELS:
        raise ValueError(f"noise on levels {levels!r}: not one of {NOISE_LEVELS}")
    disturbed = list(features)
    for level in range(len(disturbed)) if levels == "all" else [len(disturbed) - 1]:
        x = disturbed[level]
        shape = (1, *x.shape[1:])
        noise = jax.random.uniform(jax.random.fold_in(key, level), shape, minval=-1.0, maxval=1.0)
        noisy = x * (1 + amplitude * noise).astype(x.dtype)
        if rows is not None:
            chosen = jnp.asarray(rows).astype(bool).reshape(-1, *(1,) * (x.ndim - 1))
            noisy = jnp.where(chosen, noisy, x)
        disturbed[level] = noisy
    return disturbed
