"""Counter of DCL (MICCAI 2024): VGG-19, bilinear x2, global message passing, a 1x1 convolution."""

import torch
from torch import nn
from torch.nn import functional

from benchmarks.speed.torch_reference import vgg, weights
from benchmarks.speed.torch_reference.weights import Arrays

Maps = dict[str, torch.Tensor]


class MessagePassing(nn.Module):
    """Adds the mean of features sampled at learned offsets, with the grid's border repeated."""

    def __init__(self, channels: int, n_samples: int = 9) -> None:
        super().__init__()
        self.u = nn.Conv2d(channels, n_samples, 1)
        self.v = nn.Conv2d(channels, n_samples, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, channels, height, width = x.shape
        # Sub-pixel positions need float32.
        with torch.autocast(x.device.type, enabled=False):
            whole = x.float()
            rows = torch.arange(height, device=x.device).view(1, 1, height, 1) + self.v(whole)
            columns = torch.arange(width, device=x.device).view(1, 1, 1, width) + self.u(whole)
            # In the units of grid_sample the grid's outer pixels lie at -1 and 1.
            places = torch.stack(
                [2 * columns / (width - 1) - 1, 2 * rows / (height - 1) - 1], dim=-1
            )
            places = places.flatten(1, 2)  # [B, M H, W, 2]
        samples = functional.grid_sample(
            x, places.to(x.dtype), mode="bilinear", padding_mode="border", align_corners=True
        )
        return x + samples.view(batch, channels, -1, height, width).mean(dim=2)


class Counter(nn.Module):
    """Images [B, 3, H, W] to the coarse map |z| [B, H/8, W/8]."""

    def __init__(self, *, width: float = 1.0) -> None:
        super().__init__()
        channels = max(1, round(512 * width))
        self.backbone = vgg.features(vgg.VGG19, width=width)
        self.message_passing = MessagePassing(channels)
        self.head = nn.Conv2d(channels, 1, 1)

    def forward(self, images: torch.Tensor) -> Maps:
        x = self.backbone(images)
        x = functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        return {"coarse": self.head(self.message_passing(x))[:, 0].float().abs()}


def loss(module: nn.Module, batch: Maps) -> torch.Tensor:
    """Mean over images of |sum of the coarse map - count|."""
    coarse = module(batch["image"])["coarse"]
    return (coarse.sum(dim=(1, 2)) - batch["count"]).abs().mean()


def load_flax(module: Counter, params: Arrays, batch_stats: Arrays) -> None:
    """Fills the counter with the parameters of `methods.dcl.DCLCounter`."""
    vgg.load_flax(module.backbone, vgg.VGG19, params, batch_stats, "backbone/")
    for name in ("u", "v"):
        weights.copy_linear(
            getattr(module.message_passing, name), params, f"message_passing/{name}"
        )
    weights.copy_linear(module.head, params, "head")
