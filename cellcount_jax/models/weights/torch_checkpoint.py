"""Reads arrays from weight files without running their code: .pth or .pt, .safetensors, .npz.

A PyTorch file is a pickle with the numbers beside it, in a zip (since PyTorch 1.6) or one after the
other in a stream (before, as in torchvision's VGG files). The pickle may name only what rebuilds
tensors, and each of these names is replaced by a function of this module.
"""

import io
import math
import pickle
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, BinaryIO, NamedTuple

import jax.numpy as jnp
import numpy as np
import safetensors

from cellcount_jax.io import safe_pickle
from cellcount_jax.runtime.error_text import one_line

SUFFIXES = (".pth", ".pt", ".safetensors", ".npz")

_MAGIC = 0x1950A86A20F9469CFC6C  # first object of a PyTorch stream
_PROTOCOL = 1001
_ZIP = b"PK\x03\x04"

_DTYPES: Mapping[str, Any] = {
    "DoubleStorage": np.float64,
    "FloatStorage": np.float32,
    "HalfStorage": np.float16,
    "BFloat16Storage": jnp.bfloat16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
}


def read_arrays(path: Path, prefix: str = "") -> dict[str, np.ndarray]:
    """Reads the arrays whose names begin with a prefix.

    Args:
      path: .pth or .pt (a state dict: names to tensors), .safetensors, or .npz.
      prefix: Prefix of the names.

    Returns:
      Arrays by their full names, in the file's dtypes.

    Raises:
      ValueError: The file is missing, of another kind, damaged, or holds something other than
        plain tensors; one line that names it.
    """
    readers = {".npz": _read_npz, ".safetensors": _read_safetensors}
    if path.suffix not in SUFFIXES:
        raise ValueError(f"{path}: not one of the weight files {', '.join(SUFFIXES)}")
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    try:
        return readers.get(path.suffix, _read_torch)(path, prefix)
    except Exception as error:  # a damaged pickle or zip can raise anything
        raise ValueError(f"{path}: cannot be read as weights: {one_line(error)}") from error


def _read_npz(path: Path, prefix: str) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays if name.startswith(prefix)}


def _read_safetensors(path: Path, prefix: str) -> dict[str, np.ndarray]:
    with safetensors.safe_open(path, framework="numpy") as arrays:
        names = [name for name in arrays.keys() if name.startswith(prefix)]  # noqa: SIM118
        return {name: arrays.get_tensor(name) for name in names}


def _read_torch(path: Path, prefix: str) -> dict[str, np.ndarray]:
    with path.open("rb") as file:
        is_zip = file.read(len(_ZIP)) == _ZIP
        file.seek(0)
        if is_zip:
            with zipfile.ZipFile(file) as archive:
                return _read_zip(archive, prefix)
        return _read_stream(file, prefix)


class _Storage(NamedTuple):
    """A flat array of numbers somewhere in the file."""

    key: str
    dtype: np.dtype
    size: int

    @property
    def n_bytes(self) -> int:
        return self.size * self.dtype.itemsize


class _Tensor(NamedTuple):
    """A view of a storage; offset, shape and strides in elements."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _read_zip(archive: zipfile.ZipFile, prefix: str) -> dict[str, np.ndarray]:
    infos = {info.filename.partition("/")[2]: info for info in archive.infolist()}
    if "data.pkl" not in infos:
        raise ValueError("a zip, but not one that torch.save wrote (no data.pkl)")
    if "byteorder" in infos and archive.read(infos["byteorder"]) != b"little":
        raise ValueError("written on a big-endian machine")
    with archive.open(infos["data.pkl"]) as file:
        size = infos["data.pkl"].file_size
        tensors = _state_dict(_load(file, size, {}), prefix)
    flat = {}
    for storage in {tensor.storage for tensor in tensors.values()}:
        info = infos.get(f"data/{storage.key}")
        if info is None or info.file_size != storage.n_bytes:
            raise ValueError(
                f"storage {storage.key} of {storage.n_bytes} bytes is missing or truncated"
            )
        flat[storage.key] = np.frombuffer(archive.read(info), storage.dtype)
    return {name: _view(tensor, flat[tensor.storage.key]) for name, tensor in tensors.items()}


def _read_stream(file: BinaryIO, prefix: str) -> dict[str, np.ndarray]:
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    storages: dict[str, _Storage] = {}

    def load() -> Any:
        return _load(file, size - file.tell(), storages)

    try:
        known = load() == _MAGIC and load() == _PROTOCOL
    except pickle.UnpicklingError:
        known = False
    if not known:
        raise ValueError("not of a kind that torch.save writes; convert it to .safetensors or .npz")
    if not load()["little_endian"]:
        raise ValueError("written on a big-endian machine")
    tensors = _state_dict(load(), prefix)
    wanted = {tensor.storage.key for tensor in tensors.values()}
    flat = {}
    for key in load():
        storage = storages[key]
        (n_values,) = struct.unpack("<q", file.read(8))
        if n_values != storage.size:
            raise ValueError(f"storage {key} has {n_values} elements, not {storage.size}")
        if key not in wanted:
            file.seek(storage.n_bytes, io.SEEK_CUR)
            continue
        data = file.read(storage.n_bytes)
        if len(data) != storage.n_bytes:
            raise ValueError(f"storage {key} is truncated")
        flat[key] = np.frombuffer(data, storage.dtype)
    return {name: _view(tensor, flat[tensor.storage.key]) for name, tensor in tensors.items()}


def _load(file: IO[bytes], size: int, storages: dict[str, _Storage]) -> Any:
    """Plain containers, numbers, strings and `_Tensor`s of a pickle; adds to `storages`."""

    def persistent_load(pid: Any) -> _Storage:
        kind, dtype, key, _, n_values, *view = pid
        plain = isinstance(kind, str) and isinstance(dtype, str) and isinstance(key, str)
        if not plain or kind != "storage" or any(part is not None for part in view):
            raise pickle.UnpicklingError("it has storages of an unknown kind")
        return storages.setdefault(key, _Storage(key, np.dtype(_DTYPES[dtype]), int(n_values)))

    return safe_pickle.load(file, size=size, allowed=_ALLOWED, persistent_load=persistent_load)


def _rebuild_tensor(storage: _Storage, offset: int, shape: Any, strides: Any, *_: Any) -> _Tensor:
    return _Tensor(storage, int(offset), tuple(map(int, shape)), tuple(map(int, strides)))


def _rebuild_parameter(tensor: _Tensor, *_: Any) -> _Tensor:
    return tensor


_ALLOWED: Mapping[tuple[str, str], Any] = {
    **{("torch", name): name for name in _DTYPES},
    ("collections", "OrderedDict"): dict,
    ("torch._utils", "_rebuild_tensor"): _rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    ("torch.nn.parameter", "Parameter"): _rebuild_parameter,
}


def _state_dict(loaded: Any, prefix: str) -> dict[str, _Tensor]:
    if not isinstance(loaded, dict):
        raise ValueError(f"holds a {type(loaded).__name__}, not a state dict of tensors")
    chosen = {k: v for k, v in loaded.items() if isinstance(k, str) and k.startswith(prefix)}
    for name, value in chosen.items():
        if not isinstance(value, _Tensor):
            raise ValueError(f"{name} is a {type(value).__name__}, not a tensor")
    return chosen


def _view(tensor: _Tensor, flat: np.ndarray) -> np.ndarray:
    """A copy of the tensor's elements; never reads beyond the storage, whatever the file says."""
    _, offset, shape, strides = tensor
    valid = len(shape) == len(strides) and min((offset, *shape, *strides)) >= 0
    if valid and 0 in shape:
        return np.zeros(shape, flat.dtype)
    last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=False))
    if not valid or last >= flat.size or math.prod(shape) > flat.size:
        raise ValueError(f"a tensor of shape {shape} reaches beyond its storage of {flat.size}")
    bytes_ = [step * flat.itemsize for step in strides]
    view = np.lib.stride_tricks.as_strided(flat[offset:], shape, bytes_, writeable=False)
    return view.copy()
