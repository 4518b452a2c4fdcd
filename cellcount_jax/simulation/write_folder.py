"""Writing simulated samples to a folder that other tools can open."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from cellcount_jax.data.sample import Sample
from cellcount_jax.io.annotations.dots import write_dots
from cellcount_jax.io.write_ome import create_ome_zarr, write_ome_tiff
from cellcount_jax.runtime.replace_file import write_file

CHUNK_SIDE = 128


def write_folder(
    folder: Path, samples: Iterable[Sample], *, format: str, record: dict[str, Any]
) -> None:
    """Writes `images/`, `dots/*.csv` with napari's columns and `simulation.json`.

    Args:
      folder: Created if missing; its `images` and `dots` must be empty or missing.
      samples: Samples with dots.
      format: One of `FORMATS`.
      record: The parameters, for `simulation.json`.

    Raises:
      ValueError: `images` or `dots` is not empty.
    """
    for name in ("images", "dots"):
        path = folder / name
        if path.is_dir() and any(path.iterdir()):
            raise ValueError(f"{path}: not empty; choose a new folder or remove it")
        path.mkdir(parents=True, exist_ok=True)
    text = json.dumps(record, indent=2) + "\n"
    write_file(folder / "simulation.json", text)
    extension, write = FORMATS[format]
    for sample in samples:
        assert sample.dots is not None
        write(folder / "images" / f"{sample.name}{extension}", sample)
        write_dots(folder / "dots" / f"{sample.name}.csv", sample.dots, format="napari")


def _write_png(path: Path, sample: Sample) -> None:
    from PIL import Image

    pixels = sample.image[..., 0] if sample.image.shape[-1] == 1 else sample.image
    Image.fromarray(pixels).save(path)


def _write_tiff(path: Path, sample: Sample) -> None:
    rgb = sample.image.shape[-1] == 3
    pixels = sample.image if rgb else sample.image[..., 0]
    write_ome_tiff(path, pixels, axes="yxc" if rgb else "zyx", spacing=sample.spacing)


def _write_zarr(path: Path, sample: Sample) -> None:
    rgb = sample.image.shape[-1] == 3
    pixels = np.moveaxis(sample.image, -1, 0) if rgb else sample.image[..., 0]
    store = create_ome_zarr(
        path,
        pixels.shape,
        str(pixels.dtype),
        axes="cyx" if rgb else "zyx",
        chunk=CHUNK_SIDE,
        spacing=sample.spacing,
        name=sample.name,
    )
    store.write(np.ascontiguousarray(pixels)).result()


FORMATS: dict[str, tuple[str, Callable[[Path, Sample], None]]] = {
    "png": (".png", _write_png),
    "tiff": (".ome.tif", _write_tiff),
    "zarr": (".ome.zarr", _write_zarr),
}
