"""Pretrained VGG weights: from a file, or published ones by name."""

import os
from pathlib import Path
from typing import Any

import numpy as np

from cellcount_jax.io import download
from cellcount_jax.models.vgg import CONVS_PER_STAGE, conv_channels, norm_name, torch_indices
from cellcount_jax.models.weights.torch_checkpoint import read_arrays

IMAGENET = "imagenet"
"""Name of the weights that torchvision publishes, trained on ImageNet."""

OXFORD = "oxford"
"""Name of VGG-16's original ImageNet weights, read from `OXFORD_FILE` and never downloaded."""

OXFORD_FILE = "vgg16_imagenet/vgg16_oxford_fp16.npz"
"""Below the folder of raw data, `RAW_DIR`; torchvision's names of arrays, float16 or float32."""

RAW_DIR = "CELLCOUNT_RAW_DIR"

TORCHVISION_URL = "https://download.pytorch.org/models/"
PUBLISHED_SHA256 = {
    (16, False): "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
    (19, False): "dcbb9e9dad569fff7a846263a77324fc34978fea2bfb039c012d710e1776ae44",
    (16, True): "6c64b3138f2f4fcb3bcc4cafde11619c4f440eb1631787e93a682fd88305888a",
    (19, True): "c79401a0cf3cb42714e4182f5868c7a6f4f4534f5df9e956e2bb2098de41cbb6",
}
"""(depth, batch norm) -> checksum of the weights that torchvision publishes."""

_PREFIX = "features."


def load_vgg(
    path_or_name: str | Path,
    *,
    depth: int,
    batch_norm: bool,
    width: float = 1.0,
    n_convs: int | None = None,
) -> dict[str, Any]:
    """Variables of `models.vgg.VGG` from weights under torchvision's names.

    Reads `features.{i}.weight` and `.bias`, for batch norm also `.running_mean` and `.running_var`;
    other names, such as the classifier's, are ignored. No code in a file is run.

    Args:
      path_or_name: A .pth, .pt, .safetensors or .npz file; "imagenet" for torchvision's file,
        downloaded once into `download.cache_folder("weights")`; or "oxford" for `OXFORD_FILE`.
      depth: 16 or 19.
      batch_norm: The variant with batch norm.
      width: Multiplier of the channels; the published weights exist for 1 only.
      n_convs: Number of first convolutions to convert; None for all.

    Returns:
      {"params": ..., "batch_stats": ...}, float32; "batch_stats" is empty without batch norm.

    Raises:
      ValueError: The file is missing, unreadable, of another network, or holds values that are not
        finite; or the named weights cannot be had. One line that names file and key.
    """
    if str(path_or_name) in (IMAGENET, OXFORD):
        conv_channels(depth, width, n_convs)  # a wrong depth must not cost a download
        if width != 1.0:
            raise ValueError(
                f"ImageNet weights exist for width 1 only, not {width}; set model.width=1.0 "
                "or train from scratch with model.pretrained=None"
            )
        is_oxford = str(path_or_name) == OXFORD
        path = _find_oxford() if is_oxford else _fetch_imagenet(depth, batch_norm)
    else:
        path = Path(path_or_name).expanduser()
        if not path.exists():
            raise ValueError(
                f'{path}: no such file; model.pretrained takes a weight file, "{OXFORD}" for '
                f'{OXFORD_FILE} in ${RAW_DIR}, "{IMAGENET}" for a download, or None for training '
                "from scratch"
            )
    return _variables(path, depth, batch_norm, width, n_convs)


def _find_oxford() -> Path:
    root = os.environ.get(RAW_DIR)
    if not root:
        raise ValueError(
            f"{OXFORD_FILE}: ${RAW_DIR} is not set; set it to the folder that holds this file, or "
            "name a weight file with model.pretrained=FILE"
        )
    path = Path(root).expanduser() / OXFORD_FILE
    if not path.is_file():
        raise ValueError(f"{path}: no such file; name a weight file with model.pretrained=FILE")
    return path


def _fetch_imagenet(depth: int, batch_norm: bool) -> Path:
    sha256 = PUBLISHED_SHA256[depth, batch_norm]
    name = f"vgg{depth}{'_bn' if batch_norm else ''}-{sha256[:8]}.pth"
    return download.fetch(
        TORCHVISION_URL + name,
        download.cache_folder("weights"),
        sha256=sha256,
        advice=f"use a local file with model.pretrained=/path/to/{name}, or train from scratch "
        "with model.pretrained=None",
    )


def _variables(
    path: Path, depth: int, batch_norm: bool, width: float, n_convs: int | None
) -> dict[str, Any]:
    arrays = read_arrays(path, _PREFIX)
    params: dict[str, dict[str, np.ndarray]] = {}
    batch_stats: dict[str, dict[str, np.ndarray]] = {}
    indices = torch_indices(depth, batch_norm, n_convs)
    n_in = 3
    for name, n_out in conv_channels(depth, width, n_convs).items():

        def take(i: int, part: str, *shape: int) -> np.ndarray:
            return _take(path, arrays, f"{_PREFIX}{i}.{part}", shape, (depth, batch_norm))

        i = indices[name]
        kernel = take(i, "weight", n_out, n_in, 3, 3).transpose(2, 3, 1, 0)
        params[name] = {"kernel": np.ascontiguousarray(kernel), "bias": take(i, "bias", n_out)}
        if batch_norm:
            params[norm_name(name)] = {
                "scale": take(i + 1, "weight", n_out),
                "bias": take(i + 1, "bias", n_out),
            }
            batch_stats[norm_name(name)] = {
                "mean": take(i + 1, "running_mean", n_out),
                "var": take(i + 1, "running_var", n_out),
            }
        n_in = n_out
    return {"params": params, "batch_stats": batch_stats}


def _take(
    path: Path,
    arrays: dict[str, np.ndarray],
    key: str,
    shape: tuple[int, ...],
    asked: tuple[int, bool],
) -> np.ndarray:
    """One array of the file, checked, as float32."""
    if key not in arrays:
        found = _recognise(arrays)
        looks = f"it looks like {found}" if found else f"it has {len(arrays)} keys {_PREFIX}*"
        raise ValueError(f"{path}: no key {key}, which {_describe(*asked)} has; {looks}")
    array = arrays[key]
    if array.shape != shape:
        raise ValueError(
            f"{path}: {key} has shape {array.shape}, {_describe(*asked)} here needs {shape}; "
            "check depth, width and batch norm of the model"
        )
    array = array.astype(np.float32)
    if not np.isfinite(array).all():
        raise ValueError(f"{path}: {key} holds values that are not finite")
    return array


def _describe(depth: int, batch_norm: bool) -> str:
    return f"VGG-{depth} {'with' if batch_norm else 'without'} batch norm"


def _recognise(arrays: dict[str, np.ndarray]) -> str | None:
    """The network whose convolutions are exactly the 4-dimensional weights of a file."""
    convs = {key for key, array in arrays.items() if array.ndim == 4}
    for depth in CONVS_PER_STAGE:
        for batch_norm in (False, True):
            indices = torch_indices(depth, batch_norm).values()
            if convs == {f"{_PREFIX}{i}.weight" for i in indices}:
                return _describe(depth, batch_norm)
    return None
