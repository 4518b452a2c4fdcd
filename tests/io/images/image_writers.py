"""Writes small images in many formats, for tests of the readers."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore as ts
import tifffile
from PIL import Image


def pixels(*shape: int, dtype: str = "uint8", seed: int = 0) -> np.ndarray:
    """Random values over the whole range of an integer type, or in [0, 1)."""
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return rng.random(shape).astype(dtype)
    top = min(np.iinfo(dtype).max, 2**62)
    return rng.integers(0, top, shape, endpoint=True).astype(dtype)


def pillow_bytes(array: np.ndarray, kind: str, **options: Any) -> bytes:
    """A file of one of Pillow's formats."""
    file = io.BytesIO()
    Image.fromarray(array).save(file, kind, **options)
    return file.getvalue()


def tiff_bytes(array: np.ndarray, **options: Any) -> bytes:
    """A TIFF written by tifffile."""
    file = io.BytesIO()
    tifffile.imwrite(file, array, **options)
    return file.getvalue()


def npy_bytes(array: np.ndarray) -> bytes:
    """A NumPy file."""
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def write_array(folder: Path, array: np.ndarray, *, zarr: int, chunks: tuple[int, ...]) -> None:
    """A Zarr array of version 2 or 3, compressed."""
    kvstore = {"driver": "file", "path": f"{folder}/"}
    if zarr == 2:
        metadata: dict[str, Any] = {"compressor": {"id": "blosc"}, "chunks": chunks}
        metadata |= {"dtype": array.dtype.str, "shape": array.shape, "fill_value": 0}
        metadata |= {"dimension_separator": "/"}
        spec = {"driver": "zarr", "kvstore": kvstore, "metadata": metadata}
    else:
        grid = {"name": "regular", "configuration": {"chunk_shape": chunks}}
        metadata = {"shape": array.shape, "chunk_grid": grid, "data_type": str(array.dtype)}
        little = {"name": "bytes", "configuration": {"endian": "little"}}
        metadata |= {"codecs": [little, {"name": "gzip", "configuration": {"level": 1}}]}
        spec = {"driver": "zarr3", "kvstore": kvstore, "metadata": metadata}
    ts.open(spec, create=True).result().write(array).result()


def write_ome_zarr(
    folder: Path,
    array: np.ndarray,
    axes: str,
    *,
    version: str = "0.4",
    spacing: tuple[float, ...] = (),
    unit: str = "micrometer",
    channels: tuple[str, ...] = (),
    levels: tuple[str, ...] = ("s0", "s1"),
    chunks: tuple[int, ...] | None = None,
) -> Path:
    """An OME-Zarr group whose metadata are written by hand; each level is half the one before.

    Args:
      folder: Folder to create.
      array: The finest level.
      axes: Letters, such as "czyx".
      version: 0.4 (Zarr 2) or 0.5 (Zarr 3).
      spacing: Spacing of all axes.
      unit: Unit of the space axes.
      channels: labels.
      levels: Names of the arrays.
      chunks: Shape of a chunk; halves of the array if not given.
    """
    zarr = 2 if version == "0.4" else 3
    kinds = {"t": "time", "c": "channel"}
    named: list[dict[str, Any]] = [{"name": a, "type": kinds.get(a, "space")} for a in axes]
    for axis in named:
        if axis["type"] == "space" and unit:
            axis["unit"] = unit
    datasets = []
    for number, name in enumerate(levels):
        steps = tuple(slice(None, None, 2**number if a in "zyx" else 1) for a in axes)
        part = array[steps]
        write_array(
            folder / name, part, zarr=zarr, chunks=chunks or tuple(-(-n // 2) for n in part.shape)
        )
        factors = [2**number if a in "zyx" else 1 for a in axes]
        scale = [s * f for s, f in zip(spacing or (1.0,) * len(axes), factors, strict=True)]
        datasets.append(
            {"path": name, "coordinateTransformations": [{"type": "scale", "scale": scale}]}
        )
    facts: dict[str, Any] = {"multiscales": [{"axes": named, "datasets": datasets}]}
    if channels:
        facts["omero"] = {"channels": [{"label": name} for name in channels]}
    write_group(folder, facts, version=version)
    return folder


def write_group(folder: Path, facts: dict[str, Any], *, version: str = "0.4") -> None:
    """A Zarr group with attributes."""
    folder.mkdir(parents=True, exist_ok=True)
    if version == "0.4":
        (folder / ".zgroup").write_text(json.dumps({"zarr_format": 2}))
        (folder / ".zattrs").write_text(json.dumps(facts))
    else:
        group = {"zarr_format": 3, "node_type": "group", "attributes": {"ome": facts}}
        (folder / "zarr.json").write_text(json.dumps(group))


def mutations(data: bytes, number: int, *, seed: int = 0) -> list[bytes]:
    """Damaged copies of a file: cut short, bytes changed, parts removed, doubled or zeroed."""
    rng = np.random.default_rng(seed)
    changes: list[Callable[[bytes], bytes]] = [
        lambda d: d[: int(rng.integers(0, len(d)))],
        lambda d: _with_bytes(d, rng, int(rng.integers(1, 4))),
        lambda d: _with_bytes(d, rng, max(1, len(d) // 20)),
        lambda d: _with_bytes(d[:400], rng, int(rng.integers(1, 6))) + d[400:],
        lambda d: _without(d, rng),
        lambda d: d + d[: int(rng.integers(1, len(d)))],
    ]
    return [changes[i % len(changes)](data) for i in range(number)]


def _with_bytes(data: bytes, rng: np.random.Generator, number: int) -> bytes:
    changed = bytearray(data)
    for place in rng.integers(0, len(changed), number):
        changed[place] = rng.choice([0, 1, 127, 255, int(rng.integers(0, 256))])
    return bytes(changed)


def _without(data: bytes, rng: np.random.Generator) -> bytes:
    first, last = sorted(rng.integers(0, len(data), 2).tolist())
    if rng.random() < 0.5:
        return data[:first] + data[last:]
    return data[:first] + bytes(last - first) + data[last:]


def save(folder: Path, data: bytes, name: str = "image.dat") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path
