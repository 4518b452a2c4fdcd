"""Convolutional part of VGG, as torchvision builds it."""

from collections.abc import Sequence

from torch import nn

from benchmarks.speed.torch_reference import weights
from benchmarks.speed.torch_reference.weights import Arrays

VGG19 = ((64, 64), (128, 128), (256,) * 4, (512,) * 4, (512,) * 4)
"""Channels of the convolutions, stage by stage."""

CSRNET_FRONT = ((64, 64), (128, 128), (256,) * 3, (512,) * 3)
"""The first ten convolutions of VGG-16."""

Plan = Sequence[Sequence[int]]


def features(plan: Plan, *, width: float = 1.0, batch_norm: bool = False) -> nn.Sequential:
    """3x3 convolutions (batch norm if asked for) and ReLU; a 2x2 max pool between stages."""
    layers: list[nn.Module] = []
    channels = 3
    for stage in plan:
        if layers:
            layers.append(nn.MaxPool2d(kernel_size=2, stride=2))
        for size in stage:
            out = max(1, round(size * width))
            layers.append(nn.Conv2d(channels, out, kernel_size=3, padding=1))
            if batch_norm:
                layers.append(nn.BatchNorm2d(out))
            layers.append(nn.ReLU(inplace=True))
            channels = out
    return nn.Sequential(*layers)


def load_flax(
    module: nn.Sequential, plan: Plan, params: Arrays, batch_stats: Arrays, prefix: str
) -> None:
    """Fills the features with flax parameters under a prefix such as `backbone/`."""
    names = [f"{s}_{i}" for s, stage in enumerate(plan, 1) for i in range(1, len(stage) + 1)]
    convs = [layer for layer in module if isinstance(layer, nn.Conv2d)]
    norms = [layer for layer in module if isinstance(layer, nn.BatchNorm2d)]
    for name, conv in zip(names, convs, strict=True):
        weights.copy_linear(conv, params, f"{prefix}conv{name}")
    for name, norm in zip(names, norms, strict=False):
        weights.copy_norm(norm, params, batch_stats, f"{prefix}norm{name}")
