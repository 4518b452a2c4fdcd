"""The default counter's UNet with batch norm, on images."""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from benchmarks.speed.torch_reference import weights
from benchmarks.speed.torch_reference.weights import Arrays

Maps = dict[str, torch.Tensor]


def pair(channels: int, out: int) -> nn.Sequential:
    """Two 3x3 convolutions, each with batch norm and ReLU."""
    layers: list[nn.Module] = []
    for _ in range(2):
        conv = nn.Conv2d(channels, out, 3, padding=1, bias=False)
        layers += [conv, nn.BatchNorm2d(out, eps=1e-5), nn.ReLU(inplace=True)]
        channels = out
    return nn.Sequential(*layers)


class UNet(nn.Module):
    """Images [B, C, H, W] to one map [B, H, W] of the same size."""

    def __init__(self, *, channels: Sequence[int], image_channels: int, scale: float) -> None:
        super().__init__()
        self.scale = scale
        wide = [image_channels, *channels]
        levels = range(len(channels))
        self.down = nn.ModuleList([pair(wide[i], wide[i + 1]) for i in levels])
        self.pool = nn.MaxPool2d(2)
        self.up = nn.ModuleList(
            [nn.Conv2d(channels[i + 1], channels[i], 1, bias=False) for i in levels[:-1]]
        )
        self.merge = nn.ModuleList([pair(2 * channels[i], channels[i]) for i in levels[:-1]])
        self.head = nn.Conv2d(channels[0], 1, 1)

    def forward(self, images: torch.Tensor) -> Maps:
        x, skips = images, []
        for level, down in enumerate(self.down):
            x = down(self.pool(x) if level else x)
            skips.append(x)
        for level in reversed(range(len(self.merge))):
            doubled = functional.interpolate(x, scale_factor=2, mode="bilinear")
            x = torch.cat([skips[level], self.up[level](doubled)], dim=1)
            x = self.merge[level](x)
        return {"density": self.head(x)[:, 0].float() / self.scale}


def loss(module: UNet, batch: Maps) -> torch.Tensor:
    """Mean squared error of the scaled map."""
    density = module.scale * module(batch["image"])["density"]
    return functional.mse_loss(density, module.scale * batch["target"])


def load_flax(module: UNet, params: Arrays, batch_stats: Arrays) -> None:
    """Fills the network with the parameters of `models.unet.UNet`."""
    for way, blocks in (("down", module.down), ("merge", module.merge)):
        for level, block in enumerate(blocks):
            for i in range(2):
                weights.copy_linear(block[3 * i], params, f"{way}{level}_{i}")
                name = f"{way}{level}_norm{i}"
                weights.copy_norm(block[3 * i + 1], params, batch_stats, name)
    for level, conv in enumerate(module.up):
        weights.copy_linear(conv, params, f"up{level}")
    weights.copy_linear(module.head, params, "head")
