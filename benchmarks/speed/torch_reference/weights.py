"""Copies flax parameters into PyTorch modules.

Flax arrays come flat, by path: `backbone/conv1_1/kernel`. Kernels are [*taps, C, F].
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

Arrays = Mapping[str, np.ndarray]


def copy_linear(module: nn.Module, params: Arrays, name: str) -> None:
    """Kernel [*taps, C, F] and bias of a convolution or a linear map, to [F, C, *taps]."""
    _fill(module.weight, np.moveaxis(params[f"{name}/kernel"], (-1, -2), (0, 1)))
    _copy_bias(module, params, name)


def copy_doubling(module: nn.Module, params: Arrays, name: str) -> None:
    """Kernel [*taps, C, F] and bias of a transposed convolution, to [C, F, *taps]."""
    _fill(module.weight, np.moveaxis(params[f"{name}/kernel"], (-2, -1), (0, 1)))
    _copy_bias(module, params, name)


def copy_norm(module: nn.Module, params: Arrays, batch_stats: Arrays, name: str) -> None:
    """Scale and offset of a norm and, of a batch norm, its running statistics."""
    _fill(module.weight, params[f"{name}/scale"])
    _fill(module.bias, params[f"{name}/bias"])
    if module.track_running_stats:
        _fill(module.running_mean, batch_stats[f"{name}/mean"])
        _fill(module.running_var, batch_stats[f"{name}/var"])


def copy_array(parameter: torch.Tensor, params: Arrays, name: str) -> None:
    """An array of the same shape."""
    _fill(parameter, params[name])


def check_complete(module: nn.Module, params: Arrays, batch_stats: Arrays) -> None:
    """Raises a ValueError unless both sides hold equally many numbers."""
    state = module.state_dict()
    mine = sum(v.numel() for k, v in state.items() if not k.endswith("num_batches_tracked"))
    theirs = sum(a.size for a in (*params.values(), *batch_stats.values()))
    if mine != theirs:
        raise ValueError(f"{type(module).__name__} holds {mine} numbers, flax {theirs}")


def _copy_bias(module: nn.Module, params: Arrays, name: str) -> None:
    if module.bias is not None:
        _fill(module.bias, params[f"{name}/bias"])


def _fill(parameter: torch.Tensor, array: np.ndarray) -> None:
    # A dense map's kernel lacks the taps of a 1x1 convolution.
    shape = array.shape + (1,) * (parameter.ndim - array.ndim)
    if shape != tuple(parameter.shape):
        raise ValueError(f"an array {array.shape} does not fit a tensor {tuple(parameter.shape)}")
    values = torch.from_numpy(np.ascontiguousarray(array, np.float32).reshape(shape))
    with torch.no_grad():
        parameter.copy_(values)
