"""Simulated samples as a folder that labs and other tools can open."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from cellcount_jax.data.sample import Sample
from cellcount_jax.io.annotations.dots import write_dots

_CHUNK = 128


def write_folder(
    folder: Path, samples: Iterable[Sample], *, format: str, record: dict[str, Any]
) -> None:
    """Writes `images/`, `dots/*.csv` in napari's columns and `simulation.json`, one by one.

    Args:
      folder: made if missing; its `images` and `dots` must not hold anything yet.
      samples: samples with dots.
      format: one of `FORMATS`.
      record: what was simulated, for `simulation.json`.

    Raises:
      ValueError: there are files in the way.
    """
    for name in ("images", "dots"):
        place = folder / name
        if place.is_dir() and any(place.iterdir()):
            raise ValueError(f"{place}: not empty; choose a new folder or remove it")
        place.mkdir(parents=True, exist_ok=True)
    text = json.dumps(record, indent=2) + "\n"
    (folder / "simulation.json").write_text(text, encoding="utf-8")
    ending, write = FORMATS[format]
    for sample in samples:
        assert sample.dots is not None
        write(folder / "images" / f"{sample.name}{ending}", sample)
        write_dots(folder / "dots" / f"{sample.name}.csv", sample.dots, format="napari")


def _write_png(path: Path, sample: Sample) -> None:
    from PIL import Image

    Image.fromarray(sample.image).save(path)


def _write_tiff(path: Path, sample: Sample) -> None:
    """OME-TIFF: pixel size and axes are in the file."""
    import tifffile

    image = sample.image
    colour = image.shape[-1] == 3
    metadata: dict[str, Any] = {"axes": "YXS" if colour else "ZYX"}
    # from the last axis back, as a flat image has no Z
    for axis, size in zip("XYZ", reversed(sample.spacing or ()), strict=False):
        metadata |= {f"PhysicalSize{axis}": size, f"PhysicalSize{axis}Unit": "µm"}
    tifffile.imwrite(
        path,
        image if colour else image[..., 0],
        ome=True,
        photometric="rgb" if colour else "minisblack",
        compression="zlib",
        metadata=metadata,
    )


def _write_zarr(path: Path, sample: Sample) -> None:
    """OME-Zarr 0.5 with one level; colour becomes the first axis, as that format wants it."""
    import tensorstore as ts

    colour = sample.image.shape[-1] == 3
    pixels = np.moveaxis(sample.image, -1, 0) if colour else sample.image[..., 0]
    axes = "cyx" if colour else "zyx"
    chunks = [
        1 if axis == "c" else min(n, _CHUNK) for axis, n in zip(axes, pixels.shape, strict=True)
    ]
    store = ts.open(
        {
            "driver": "zarr3",
            "kvstore": {"driver": "file", "path": f"{path / '0'}/"},
            "metadata": {
                "shape": list(pixels.shape),
                "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunks}},
                "data_type": str(pixels.dtype),
                "dimension_names": list(axes),
                "codecs": [{"name": "zstd", "configuration": {"level": 3}}],
            },
            "create": True,
        }
    ).result()
    store.write(np.ascontiguousarray(pixels)).result()
    group = {
        "zarr_format": 3,
        "node_type": "group",
        "attributes": {"ome": _ome_facts(sample, axes)},
    }
    (path / "zarr.json").write_text(json.dumps(group, indent=2), encoding="utf-8")


def _ome_facts(sample: Sample, axes: str) -> dict[str, Any]:
    """The multiscales part of OME-Zarr 0.5 for an image of one level."""
    known = sample.spacing is not None
    described = [
        {"name": "c", "type": "channel"}
        if axis == "c"
        else {"name": axis, "type": "space"} | ({"unit": "micrometer"} if known else {})
        for axis in axes
    ]
    scale = [1.0] * (len(axes) - len(sample.spacing or ())) + list(sample.spacing or ())
    level = {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": scale}]}
    return {
        "version": "0.5",
        "multiscales": [{"name": sample.name, "axes": described, "datasets": [level]}],
    }


FORMATS: dict[str, tuple[str, Callable[[Path, Sample], None]]] = {
    "png": (".png", _write_png),
    "tiff": (".ome.tif", _write_tiff),
    "zarr": (".ome.zarr", _write_zarr),
}
