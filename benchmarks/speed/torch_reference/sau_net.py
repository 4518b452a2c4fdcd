"""SAU-Net (ACM BCB 2019) with instance norm, for images and volumes."""

import torch
from torch import nn
from torch.nn import functional

from benchmarks.speed.torch_reference import weights
from benchmarks.speed.torch_reference.weights import Arrays

CONV = {2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
POOL = {2: nn.MaxPool2d, 3: nn.MaxPool3d}
NORM = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}
LEVELS = 4

Maps = dict[str, torch.Tensor]


def block(ndim: int, channels: int, out: int, *, doubling: bool = False) -> nn.Sequential:
    """Convolution (3 x ... x 3, or transposed 2 x ... x 2 of stride 2), ReLU, norm."""
    if doubling:
        conv = TRANSPOSED[ndim](channels, out, kernel_size=2, stride=2)
    else:
        conv = CONV[ndim](channels, out, kernel_size=3, padding=1)
    return nn.Sequential(conv, nn.ReLU(inplace=True), NORM[ndim](out, eps=1e-6, affine=True))


class SelfAttention(nn.Module):
    """x + norm(ReLU(linear(attention(x)))), inner products not scaled."""

    def __init__(self, ndim: int, channels: int, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.theta = nn.Linear(channels, channels)
        self.phi = nn.Linear(channels, channels)
        self.g = nn.Linear(channels, channels)
        self.out = nn.Linear(channels, channels, bias=ndim == 3)
        self.norm = NORM[ndim](channels, eps=1e-6, affine=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = x.flatten(2).transpose(1, 2)
        query, key, value = (f(tokens)[:, None] for f in (self.theta, self.phi, self.g))
        dropout = self.dropout if self.training else 0.0
        seen = functional.scaled_dot_product_attention(
            query, key, value, scale=1.0, dropout_p=dropout
        )
        seen = functional.relu(self.out(seen[:, 0])).transpose(1, 2).reshape(x.shape)
        return x + self.norm(seen)


class SAUNet(nn.Module):
    """Images [B, C, *space] to one map [B, *space] of the same size, non-negative."""

    def __init__(
        self, *, ndim: int, channels: int, base_channels: int = 32, dropout: float = 0.3
    ) -> None:
        super().__init__()
        widths = [base_channels * 2**level for level in range(LEVELS)]
        self.down = nn.ModuleList()
        for width in widths:
            self.down.append(nn.Sequential(block(ndim, channels, width), block(ndim, width, width)))
            channels = width
        self.pool = POOL[ndim](2)
        self.attention = SelfAttention(ndim, widths[-1], dropout)
        self.doubling, self.up = nn.ModuleList(), nn.ModuleList()
        for width in widths[:-1]:
            self.doubling.append(block(ndim, 2 * width, width, doubling=True))
            self.up.append(nn.Sequential(block(ndim, 2 * width, width), block(ndim, width, width)))
        self.head = CONV[ndim](base_channels, 1, 1)

    def forward(self, images: torch.Tensor) -> Maps:
        x, skips = images, []
        for level, down in enumerate(self.down):
            x = down(self.pool(x) if level else x)
            skips.append(x)
        x = self.attention(x)
        for level in reversed(range(LEVELS - 1)):
            x = torch.cat([skips[level], self.doubling[level](x)], dim=1)
            x = self.up[level](x)
        return {"density": functional.relu(self.head(x))[:, 0].float()}


def loss(module: nn.Module, batch: Maps) -> torch.Tensor:
    """Mean squared error of the map."""
    return functional.mse_loss(module(batch["image"])["density"], batch["target"])


def load_flax(module: SAUNet, params: Arrays, batch_stats: Arrays) -> None:
    """Fills the network with the parameters of `models.sau_net.SAUNet`."""

    def copy_block(target: nn.Sequential, name: str, copy=weights.copy_linear) -> None:
        copy(target[0], params, f"{name}/conv")
        weights.copy_norm(target[2], params, batch_stats, f"{name}/norm")

    for way in ("down", "up"):
        for level, pair in enumerate(getattr(module, way)):
            for i, part in enumerate(pair):
                copy_block(part, f"{way}{level}_{i}")
    for level, part in enumerate(module.doubling):
        copy_block(part, f"up{level}_transpose", weights.copy_doubling)
    for name in ("theta", "phi", "g", "out"):
        weights.copy_linear(getattr(module.attention, name), params, f"attention/{name}")
    weights.copy_norm(module.attention.norm, params, batch_stats, "attention/norm")
    weights.copy_linear(module.head, params, "head")
