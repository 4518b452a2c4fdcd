"""OME-Zarr 0.4 and 0.5 folders and plain Zarr arrays, read by chunk through TensorStore."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cellcount_jax.io.images import base
from cellcount_jax.io.images.chunks import length, split_by_chunks

_METADATA_FILES = ("zarr.json", ".zarray", ".zgroup", ".zattrs")
_CACHE_BYTES = 256 * 2**20
_READ_BYTES = 128 * 2**20
"""TensorStore holds all chunks of one read at once, and a thin sample touches every chunk."""


def is_zarr(path: Path) -> bool:
    """Whether a folder is a Zarr array or group, or is named like one."""
    return path.is_dir() and (path.suffix.lower() == ".zarr" or _has_metadata(path))


def open_zarr(path: Path, request: base.Request) -> base.ImageReader:
    """Opens an OME-Zarr image or a plain array.

    Levels, axes, voxel size and channel names come from the metadata. Missing chunks hold the fill
    value, as the Zarr specification says.

    Raises:
      ProblemError: The metadata are invalid, or the caller must choose.
      Exception: Whatever TensorStore raises on damaged files.
    """
    if not _has_metadata(path):
        raise base.ProblemError("holds no Zarr metadata; copy the folder again")
    metadata = attributes(path)
    if _is_array(path):
        base.pick_level(1, request.level)
        base.pick_scene([1], request.scene)
        return _array(path, _array_axes(path, metadata), {}, (), request)
    images = metadata.get("multiscales")
    if not isinstance(images, list) or not images:
        inside = [p.relative_to(path).as_posix() for p in inner_images(path)]
        advice = f"one of its images, such as {path.name}/{inside[0]}" if inside else "an array"
        raise base.ProblemError(
            f"is a Zarr group without an image of its own (multiscales); give {advice} in it"
        )
    chosen = _mapping(images[base.pick_scene([1] * len(images), request.scene)])
    levels = chosen.get("datasets")
    if not isinstance(levels, list) or not levels:
        raise base.ProblemError("names no levels in its metadata (datasets); write it again")
    dataset = _mapping(levels[base.pick_level(len(levels), request.level)])
    axes, units = _ome_axes(chosen)
    spacing = _spacing(axes, units, chosen, dataset)
    array = _inside(path, dataset.get("path"))
    return _array(array, axes, spacing, _channel_names(metadata), request)


def attributes(path: Path) -> Mapping[str, Any]:
    """Attributes of a group or array, OME's at the top level in both versions."""
    if (path / "zarr.json").is_file():
        own = _mapping(_json(path / "zarr.json").get("attributes", {}))
        return {**own, **_mapping(own.get("ome", {}))}
    return _json(path / ".zattrs") if (path / ".zattrs").is_file() else {}


def inner_images(path: Path) -> list[Path]:
    """Images in a group that is not one: fields of a plate or well, or numbered series."""
    try:
        metadata = attributes(path)
        if plate := metadata.get("plate"):
            wells = [_inside(path, well["path"]) for well in plate["wells"]]
            return [image for well in wells for image in inner_images(well)]
        if well := metadata.get("well"):
            return [_inside(path, field["path"]) for field in well["images"]]
        if metadata.get("multiscales") or "bioformats2raw.layout" not in metadata:
            return []
        series = attributes(path / "OME").get("series") or []
        found = [_inside(path, name) for name in series]
        if not series:
            found = sorted(
                (p for p in path.iterdir() if p.name.isdigit()), key=lambda p: int(p.name)
            )
        return [p for p in found if is_zarr(p)]
    except (AttributeError, KeyError, TypeError, OSError, ValueError):
        return []


def _has_metadata(path: Path) -> bool:
    return any((path / name).is_file() for name in _METADATA_FILES)


def _json(path: Path) -> Mapping[str, Any]:
    try:
        return _mapping(json.loads(path.read_bytes()))
    except (ValueError, RecursionError):
        raise base.ProblemError(f"{path.name} is not valid JSON; copy the folder again") from None


def _mapping(value: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise base.ProblemError("has metadata of the wrong form; write it again")
    return value


def _inside(path: Path, name: object) -> Path:
    """A path inside a group; metadata must not point outside it."""
    parts = name.split("/") if isinstance(name, str) else [".."]
    if ".." in parts or str(name).startswith("/") or "\0" in str(name):
        raise base.ProblemError(f"names a path {name!r} that is not inside it; write it again")
    return path / str(name)


def _is_array(path: Path) -> bool:
    if (path / "zarr.json").is_file():
        return _json(path / "zarr.json").get("node_type") == "array"
    return (path / ".zarray").is_file()


def _array_axes(path: Path, metadata: Mapping[str, Any]) -> str:
    """Axes of a plain array, empty unless the name of each dimension is one letter."""
    names = metadata.get("_ARRAY_DIMENSIONS")
    if (path / "zarr.json").is_file():
        names = _json(path / "zarr.json").get("dimension_names", names)
    if not isinstance(names, list) or not all(isinstance(n, str) and len(n) == 1 for n in names):
        return ""
    return "".join(names).upper()


def _array(
    path: Path,
    axes: str,
    spacing: Mapping[str, float],
    channel_names: tuple[str, ...],
    request: base.Request,
) -> base.ImageReader:
    # Imported here because the import is slow and most images are not Zarr.
    import tensorstore as ts

    if not is_zarr(path) or not _is_array(path):
        raise base.ProblemError(
            f"lacks the array {path.name!r} that its metadata name; copy it again"
        )
    driver = "zarr3" if (path / "zarr.json").is_file() else "zarr"
    store = ts.open(
        {"driver": driver, "kvstore": {"driver": "file", "path": f"{path}/"}},
        context=ts.Context({"cache_pool": {"total_bytes_limit": _CACHE_BYTES}}),
        open=True,
        read=True,
    ).result()
    shape = tuple(int(n) for n in store.shape)
    dtype = np.dtype(store.dtype.numpy_dtype)
    chunks = tuple(int(n or 1) for n in store.chunk_layout.read_chunk.shape or shape)
    base.check_size(math.prod(chunks), request.limit, "stores it in chunks")
    if axes and len(axes) != len(shape):
        raise base.ProblemError(f"names axes {axes!r} for an array of shape {shape}; pass axes")
    at_once = max(1, _READ_BYTES // (math.prod(chunks) * dtype.itemsize))

    def read(slices: base.Slices) -> np.ndarray:
        part = np.empty([length(s) for s in slices], dtype)
        for inside, outside in split_by_chunks(slices, chunks, at_once):
            part[outside] = np.asarray(store[inside].read().result())
        return part

    return base.ImageReader(
        shape=shape,
        dtype=dtype,
        axes=axes,
        read=read,
        chunks=chunks,
        spacing=spacing,
        channel_names=channel_names,
    )


def _ome_axes(image: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """Letters of the axes, and the unit of each."""
    axes = image.get("axes", ["t", "c", "z", "y", "x"])
    letters, units = "", {}
    for axis in axes if isinstance(axes, list) and axes else [None]:
        name = axis.get("name") if isinstance(axis, Mapping) else axis
        if not isinstance(name, str) or not name:
            raise base.ProblemError("names no axes in its metadata; write it again or pass axes")
        letter = {"channel": "C", "time": "T"}.get(name.lower(), name[0].upper())
        letters += letter
        # Version 0.3 names axes without units; micrometres are not assumed.
        units[letter] = axis.get("unit") if isinstance(axis, Mapping) else None
    return letters, units


def _spacing(
    axes: str, units: Mapping[str, Any], image: Mapping[str, Any], dataset: Mapping[str, Any]
) -> dict[str, float]:
    scale = np.ones(len(axes))
    for holder in (image, dataset):
        for change in holder.get("coordinateTransformations") or []:
            factors = change.get("scale") if isinstance(change, Mapping) else None
            if factors is None:
                continue
            if not isinstance(factors, Sequence) or len(factors) != len(axes):
                raise base.ProblemError("has a scale that does not fit its axes; write it again")
            scale = scale * np.asarray(factors, float)
    lengths = zip(axes, scale, strict=True)
    return base.spacing_of((c, length, units[c]) for c, length in lengths if c in "ZYX")


def _channel_names(metadata: Mapping[str, Any]) -> tuple[str, ...]:
    omero = metadata.get("omero")
    channels = omero.get("channels") if isinstance(omero, Mapping) else None
    if not isinstance(channels, list) or not all(isinstance(c, Mapping) for c in channels):
        return ()
    labels = [c.get("label") for c in channels]
    return tuple(map(str, labels)) if all(labels) else ()
