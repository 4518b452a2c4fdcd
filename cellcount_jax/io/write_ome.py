"""Writing OME-TIFF and OME-Zarr 0.5 with axes and pixel size."""

import hashlib
import json
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cellcount_jax.runtime.replace_file import replacing, write_file


def write_ome_tiff(
    path: Path, pixels: np.ndarray, *, axes: str, spacing: Sequence[float] | None = None
) -> None:
    """Writes an OME-TIFF.

    Args:
      path: The file; its folder must exist.
      pixels: One axis per letter of `axes`.
      axes: "yx", "zyx", or "yxc" for RGB.
      spacing: Micrometres per pixel along the space axes, if known.
    """
    import tifffile

    metadata: dict[str, Any] = {"axes": axes.upper().replace("C", "S")}
    # from the last axis backwards: a 2-D image has no Z
    for axis, size in zip("XYZ", reversed(spacing or ()), strict=False):
        metadata |= {f"PhysicalSize{axis}": size, f"PhysicalSize{axis}Unit": "µm"}
    # Derived from the content, so that equal images give equal files.
    digest = hashlib.sha256(repr((metadata, pixels.dtype, pixels.shape)).encode())
    digest.update(pixels.tobytes())
    metadata["UUID"] = str(uuid.UUID(bytes=digest.digest()[:16], version=5))
    with replacing(path, "wb") as file:
        tifffile.imwrite(
            file,
            pixels,
            ome=True,
            compression="zlib",
            photometric="rgb" if "c" in axes else "minisblack",
            metadata=metadata,
        )


def create_ome_zarr(
    path: Path,
    shape: Sequence[int],
    dtype: str,
    *,
    axes: str,
    chunk: int | Sequence[int],
    spacing: Sequence[float] | None = None,
    name: str | None = None,
) -> Any:
    """Creates an OME-Zarr 0.5 image with one empty level; an existing one is replaced.

    Args:
      path: Folder of the group.
      shape: Shape of the image, one side per letter of `axes`.
      dtype: Data type of the pixels.
      axes: "yx", "zyx" or, as the format puts channels first, "cyx".
      chunk: Largest side of a chunk, one for all axes or one per axis; channels are not joined.
      spacing: Micrometres per pixel along the space axes, if known.
      name: Name of the image.

    Returns:
      A TensorStore of the level, to write boxes into.
    """
    import tensorstore as ts

    sides = np.broadcast_to(chunk, len(shape)).tolist()
    chunks = [1 if a == "c" else min(s, n) for a, s, n in zip(axes, sides, shape, strict=True)]
    store = ts.open(
        {
            "driver": "zarr3",
            "kvstore": {"driver": "file", "path": f"{path / '0'}/"},
            "metadata": {
                "shape": list(shape),
                "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunks}},
                "data_type": dtype,
                "dimension_names": list(axes),
                "codecs": [{"name": "zstd", "configuration": {"level": 1}}],
            },
            "create": True,
            "delete_existing": True,
        }
    ).result()
    attributes = {"ome": _ome_metadata(axes, spacing, name)}
    group = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
    write_file(path / "zarr.json", json.dumps(group, indent=2))
    return store


def _ome_metadata(axes: str, spacing: Sequence[float] | None, name: str | None) -> dict[str, Any]:
    unit = {} if spacing is None else {"unit": "micrometer"}
    described = [
        {"name": a, "type": "channel"} if a == "c" else {"name": a, "type": "space"} | unit
        for a in axes
    ]
    scale = [1.0] * (len(axes) - len(spacing or ())) + [float(s) for s in spacing or ()]
    level = {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": scale}]}
    image = ({"name": name} if name else {}) | {"axes": described, "datasets": [level]}
    return {"version": "0.5", "multiscales": [image]}
