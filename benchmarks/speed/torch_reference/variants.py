"""Ways to run the same network in PyTorch: memory layout, compiler, number format."""

import contextlib
import dataclasses
from collections.abc import Callable

import torch
from torch import nn

from benchmarks.speed.torch_reference.networks import NETWORKS, Batch, make_optimizer

Run = Callable[[], object]
"""Does the work once."""


@dataclasses.dataclass(frozen=True)
class Variant:
    """A way to run a network.

    Attributes:
      channels_last: Layout of images, volumes and kernels.
      compile: Mode of torch.compile; None leaves the network as it is.
    """

    channels_last: bool
    compile: str | None


VARIANTS = {
    "eager": Variant(channels_last=False, compile=None),
    "channels_last": Variant(channels_last=True, compile=None),
    "compiled": Variant(channels_last=False, compile="default"),
    "compiled, channels_last": Variant(channels_last=True, compile="default"),
    "compiled, CUDA graphs": Variant(channels_last=True, compile="reduce-overhead"),
}

CUDA_ONLY = ("compiled, CUDA graphs",)


def arrange(tensor: torch.Tensor, variant: Variant) -> torch.Tensor:
    """An image or volume [B, C, *space] in the variant's layout; other tensors as they are."""
    layouts = {4: torch.channels_last, 5: torch.channels_last_3d}
    if not variant.channels_last or tensor.ndim not in layouts:
        return tensor.contiguous()
    return tensor.contiguous(memory_format=layouts[tensor.ndim])


def prediction(module: nn.Module, images: torch.Tensor, variant: Variant, dtype: str) -> Run:
    """The network on images, in evaluation mode and without gradients."""
    module = _arranged(module, variant).eval()
    images = arrange(images, variant)
    predict = torch.compile(module, mode=variant.compile) if variant.compile else module

    def run() -> object:
        with torch.inference_mode(), _format(images.device, dtype):
            return predict(images)

    return run


def training_step(
    name: str, module: nn.Module, batch: Batch, variant: Variant, dtype: str
) -> Callable[[], torch.Tensor]:
    """Loss, its gradient and the update of the trained part; returns the loss before it."""
    trained = _arranged(NETWORKS[name].trained(module), variant).train()
    batch = {key: arrange(value, variant) for key, value in batch.items()}
    optimizer = make_optimizer(name, module)

    def loss(batch: Batch) -> torch.Tensor:
        return NETWORKS[name].loss(trained, batch)

    compute = torch.compile(loss, mode=variant.compile) if variant.compile else loss
    device = batch["target" if "target" in batch else "count"].device

    def run() -> torch.Tensor:
        optimizer.zero_grad(set_to_none=True)
        with _format(device, dtype):
            value = compute(batch)
        value.backward()
        optimizer.step()
        return value.detach()

    return run


def _arranged(module: nn.Module, variant: Variant) -> nn.Module:
    for parameter in module.parameters():
        parameter.data = arrange(parameter.data, variant)
    return module


def _format(device: torch.device, dtype: str) -> contextlib.AbstractContextManager:
    if dtype == "float32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=getattr(torch, dtype))
