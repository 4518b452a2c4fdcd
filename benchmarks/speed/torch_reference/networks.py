"""The table of networks: how each is built, filled with flax parameters, and trained."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from benchmarks.speed.torch_reference import countxplain, csrnet, dcl, sau_net, unet
from benchmarks.speed.torch_reference.weights import Arrays, check_complete

Batch = dict[str, torch.Tensor]


@dataclasses.dataclass(frozen=True)
class Network:
    """What the worker needs of a network.

    Attributes:
      build: Options -> module, whose call turns images into named maps.
      load_flax: (module, parameters, batch statistics), both flat by path.
      loss: (trained part, batch) -> scalar.
      learning_rate: Learning rate of Adam.
      decay: Weight decay, which makes it AdamW; None for Adam.
      trained: Module -> the part that training changes.
    """

    build: Callable[..., nn.Module]
    load_flax: Callable[[Any, Arrays, Arrays], None]
    loss: Callable[[nn.Module, Batch], torch.Tensor]
    learning_rate: float
    decay: float | None = None
    trained: Callable[[Any], nn.Module] = lambda module: module


NETWORKS = {
    "dcl": Network(dcl.Counter, dcl.load_flax, dcl.loss, 1e-4),
    "csrnet": Network(csrnet.CSRNet, csrnet.load_flax, csrnet.loss, 7e-5),
    "csrnet_batch_norm": Network(
        functools.partial(csrnet.CSRNet, batch_norm=True), csrnet.load_flax, csrnet.loss, 7e-5
    ),
    "countxplain": Network(
        countxplain.CountXplain,
        countxplain.load_flax,
        countxplain.loss,
        1e-2,
        trained=lambda module: module.head,
    ),
    "unet": Network(unet.UNet, unet.load_flax, unet.loss, 2e-3),
    **{
        f"sau_net_{ndim}d": Network(
            functools.partial(sau_net.SAUNet, ndim=ndim, channels=channels),
            sau_net.load_flax,
            sau_net.loss,
            1e-3,
            decay=1.0,
        )
        for ndim, channels in ((2, 3), (3, 1))
    },
}


def load(name: str, options: dict[str, Any], params: Arrays, batch_stats: Arrays) -> nn.Module:
    """A network with the parameters of its flax twin, every number of which must be used."""
    network = NETWORKS[name]
    module = network.build(**options)
    check_complete(module, params, batch_stats)
    network.load_flax(module, params, batch_stats)
    return module


def make_optimizer(name: str, module: nn.Module) -> torch.optim.Optimizer:
    """Adam, or AdamW where the method decays the weights; fused into one pass over them."""
    network = NETWORKS[name]
    parameters = network.trained(module).parameters()
    if network.decay is None:
        return torch.optim.Adam(parameters, lr=network.learning_rate, fused=True)
    return torch.optim.AdamW(
        parameters, lr=network.learning_rate, weight_decay=network.decay, fused=True
    )
