"""Weights of a VGG trained elsewhere, from a file or from torchvision's published ones."""

from pathlib import Path
from typing import Any

import numpy as np

from cellcount_jax.models.vgg import CONVS_PER_STAGE, conv_channels, norm_name, torch_indices
from cellcount_jax.models.weights import download
from cellcount_jax.models.weights.torch_checkpoint import read_arrays

IMAGENET = "imagenet"
"""Name of the weights that torchvision publishes, trained on ImageNet."""

_PREFIX = "features."
_PUBLISHED = {
    (16, False): "vgg16-397923af.pth",
    (19, False): "vgg19-dcbb9e9d.pth",
    (16, True): "vgg16_bn-6c64b313.pth",
    (19, True): "vgg19_bn-c79401a0.pth",
}


def load_vgg(
    path_or_name: str | Path,
    *,
    depth: int,
    batch_norm: bool,
    width: float = 1.0,
    n_convs: int | None = None,
    base_url: str = download.TORCHVISION_URL,
    cache_dir: str | Path | None = None,
) -> dict[str, Any]:
    """Variables of `models.vgg.VGG` from weights under torchvision's names.

    Reads `features.{i}.weight` and `.bias`, for batch norm also `.running_mean` and `.running_var`;
    other names, such as the classifier's, are left alone. No code in a file is run.

    Args:
      path_or_name: a .pth, .pt, .safetensors or .npz file, or "imagenet" for torchvision's file,
        downloaded once.
      depth: 16 or 19.
      batch_norm: the variant with batch norm.
      width: multiplier of the channels; "imagenet" exists for 1 only.
      n_convs: only the first so many convolutions; None for all.
      base_url: where the named weights lie.
      cache_dir: where downloads are kept; None: `weight_download.cache_folder()`.

    Returns:
      {"params": ..., "batch_stats": ...}, float32; "batch_stats" is empty without batch norm.

    Raises:
      ValueError: the file is missing, unreadable, of another network, or holds values that are not
        finite; or the named weights cannot be had. One line that names file and key.
    """
    if str(path_or_name) == IMAGENET:
        conv_channels(depth, width, n_convs)  # a wrong depth must not cost a download
        if width != 1.0:
            raise ValueError(
                f"ImageNet weights exist for width 1 only, not {width}; set model.width=1.0 "
                "or train from scratch with model.pretrained=None"
            )
        name = _PUBLISHED[depth, batch_norm]
        path = download.fetch(name, base_url=base_url, cache_dir=cache_dir)
    else:
        path = Path(path_or_name).expanduser()
        if not path.exists():
            raise ValueError(
                f"{path}: no such file; model.pretrained takes a weight file, "
                f'"{IMAGENET}" for a download, or None for training from scratch'
            )
    return _variables(path, depth, batch_norm, width, n_convs)


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
