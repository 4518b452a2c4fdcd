"""CSRNet (CVPR 2018): ten convolutions of VGG-16, six dilated ones, a linear 1x1 head."""

import torch
from torch import nn
from torch.nn import functional

from benchmarks.speed.torch_reference import vgg, weights
from benchmarks.speed.torch_reference.weights import Arrays

BACK_CHANNELS = (512, 512, 512, 256, 128, 64)

Maps = dict[str, torch.Tensor]


class CSRNet(nn.Module):
    """Images [B, 3, H, W] to a density [B, H/8, W/8], and the features it is read from."""

    def __init__(self, *, width: float = 1.0, batch_norm: bool = False) -> None:
        super().__init__()
        self.frontend = vgg.features(vgg.CSRNET_FRONT, width=width, batch_norm=batch_norm)
        channels = max(1, round(512 * width))
        layers: list[nn.Module] = []
        for size in BACK_CHANNELS:
            out = max(1, round(size * width))
            layers.append(nn.Conv2d(channels, out, 3, padding=2, dilation=2))
            if batch_norm:
                layers.append(nn.BatchNorm2d(out))
            layers.append(nn.ReLU(inplace=True))
            channels = out
        self.backend = nn.Sequential(*layers)
        self.head = nn.Conv2d(channels, 1, 1)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        return self.backend(self.frontend(images))

    def forward(self, images: torch.Tensor) -> Maps:
        return {"density": self.head(self.features(images))[:, 0].float()}


def loss(module: nn.Module, batch: Maps) -> torch.Tensor:
    """Mean squared error of the density; the target is at its resolution."""
    return functional.mse_loss(module(batch["image"])["density"], batch["target"])


def load_flax(module: CSRNet, params: Arrays, batch_stats: Arrays, prefix: str = "") -> None:
    """Fills the network with the parameters of `models.csrnet.CSRNet`."""
    vgg.load_flax(module.frontend, vgg.CSRNET_FRONT, params, batch_stats, f"{prefix}frontend/")
    convs = [layer for layer in module.backend if isinstance(layer, nn.Conv2d)]
    norms = [layer for layer in module.backend if isinstance(layer, nn.BatchNorm2d)]
    for i, conv in enumerate(convs, 1):
        weights.copy_linear(conv, params, f"{prefix}conv{i}")
    for i, norm in enumerate(norms, 1):
        weights.copy_norm(norm, params, batch_stats, f"{prefix}norm{i}")
    weights.copy_linear(module.head, params, f"{prefix}head")
