"""CSRNet (Li et al., CVPR 2018): VGG-16 front end, dilated back end, density at stride 8."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.nn.initializers import Initializer

from cellcount_jax.models import layers
from cellcount_jax.models.conv.conv2d import Conv2D
from cellcount_jax.models.vgg import VGG

STRIDE = 8
"""Pixels of the image per position of the density map."""

FRONT_CONVS = 10
"""Convolutions of VGG-16 that make the front end; two more pools would follow."""

BACK_CHANNELS = (512, 512, 512, 256, 128, 64)
"""Channels of the dilated convolutions at width 1."""

KERNEL_INITS: dict[str, Initializer] = {
    "gaussian": nn.initializers.normal(0.01),
    "he": nn.initializers.he_normal(),
}


class CSRNet(nn.Module):
    """Density map at an eighth of the image's side, and the features that it is read from.

    The first ten convolutions of VGG-16 (`frontend`, a `VGG`, so that imported weights fit as they
    are), six 3x3 convolutions of dilation 2 `conv1` to `conv6`, and a linear 1x1 `head`. Biases
    start at 0.

    Attributes:
      width: Multiplier of all channels.
      batch_norm: Batch norm after each 3x3 convolution, to train from scratch; not in the paper.
      kernel_init: "gaussian" draws from N(0, 0.01^2) (paper, with imported weights in front), "he"
        keeps the variance of the signal, to train from scratch. The head is always Gaussian.
      dtype: Dtype of the 3x3 convolutions and of the features; parameters and the density stay
        float32.
    """

    width: float = 1.0
    batch_norm: bool = False
    kernel_init: str = "gaussian"
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(
        self, x: jax.Array, *, train: bool = False, mask: jax.Array | None = None
    ) -> dict[str, jax.Array]:
        """Maps of normalised images.

        Args:
          x: [B, H, W, C].
          train: Use and update the statistics of the batch, if there is batch norm.
          mask: [B], 0 for padding rows, which are kept out of the batch statistics.

        Returns:
          `density` [B, h, w] float32, signed, whose sum is the count; `features` [B, h, w, 64]
          (times width) of the last dilated convolution. h and w are H / 8 and W / 8, rounded down.

        Raises:
          ValueError: Not a batch of images, or an unknown `kernel_init`.
        """
        if x.ndim != 4:
            raise ValueError(f"CSRNet takes images [B, H, W, C], got {x.shape}")
        if self.kernel_init not in KERNEL_INITS:
            raise ValueError(
                f"CSRNet kernel_init {self.kernel_init!r} is not one of {sorted(KERNEL_INITS)}"
            )
        kernel_init = KERNEL_INITS[self.kernel_init]
        frontend = VGG(
            depth=16,
            width=self.width,
            batch_norm=self.batch_norm,
            n_convs=FRONT_CONVS,
            kernel_init=kernel_init,
            dtype=self.dtype,
            name="frontend",
        )
        features = frontend(x, train=train, mask=mask)
        for i, channels in enumerate(BACK_CHANNELS, start=1):
            features = Conv2D(
                max(1, round(channels * self.width)),
                dilation=2,
                dtype=self.dtype,
                kernel_init=kernel_init,
                name=f"conv{i}",
            )(features)
            if self.batch_norm:
                norm: dict[str, Any] = {"dtype": self.dtype, "name": f"norm{i}"}
                features = layers.batch_norm(features, train=train, mask=mask, **norm)
            features = nn.relu(features)
        head = nn.Conv(1, (1, 1), kernel_init=KERNEL_INITS["gaussian"], name="head")
        density = head(features.astype(jnp.float32))[..., 0]
        return {"density": density, "features": features}
