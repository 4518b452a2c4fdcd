"""The parsers that `fuzz` tries, each with small files to begin from and the errors it may raise.

Imported under instrumentation; every import of a parser belongs at the top of this file.
"""

import importlib.util
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import PIL.Image
from etils import epath

from benchmarks.exactness.fuzz_seeds import (
    COLOUR,
    GREY,
    Seeds,
    cellpose,
    czi,
    gifs,
    model_files,
    nd2,
    npy,
    ome_zarr,
    pillow,
    saved,
    texts,
    tiffs,
    torch_files,
    written,
)
from cellcount_jax.annotation import journal
from cellcount_jax.inference import model_file
from cellcount_jax.io import regions, safe_pickle
from cellcount_jax.io.annotations import csv_table, dots
from cellcount_jax.io.images.image import read_image
from cellcount_jax.io.write_ome import create_ome_zarr
from cellcount_jax.models.weights import torch_checkpoint
from cellcount_jax.prediction import counts_csv
from cellcount_jax.runtime import run_files

MAX_PIXELS = 2**24
"""Most values that the readers of images may decode: far more than a damaged file needs to fail."""


class Target(NamedTuple):
    """A parser of files.

    Attributes:
      parse: Reads the file.
      seeds: Contents of files that it reads.
      name: Name of the file, with the suffix that the parser expects.
      errors: Errors that it may raise; their text must name the file.
    """

    parse: Callable[[Path], Any]
    seeds: Seeds
    name: str
    errors: tuple[type[Exception], ...] = (ValueError,)


def _read_image(path: Path) -> Any:
    return read_image(path, max_pixels=MAX_PIXELS)


def _read_zarr(path: Path) -> Any:
    """Metadata of a Zarr image; the chunk beside it is whole."""
    folder = path.parent / "image.zarr"
    folder.mkdir(exist_ok=True)
    (folder / ".zarray").write_bytes(path.read_bytes())
    (folder / "0.0").write_bytes(GREY.tobytes())
    return read_image(folder, max_pixels=MAX_PIXELS)


def _read_format(format: str) -> Callable[[Path], Any]:
    def parse(path: Path) -> Any:
        dots.read_dots(path)
        return dots.read_dots(path, format=format)

    return parse


def _unpickle(path: Path) -> Any:
    with path.open("rb") as file:
        size = path.stat().st_size
        return safe_pickle.load(file, size=size, allowed={}, keep_records=True)


def _read_metrics(path: Path) -> Any:
    found = run_files.read_metrics(epath.Path(path.parent))
    run_files.rewind_metrics(epath.Path(path.parent), stage="density", step=3)
    return found


def _read_ome_zarr(path: Path) -> Any:
    """Metadata of the group of an OME-Zarr; the array in it is whole."""
    folder = path.parent / "group.zarr"
    if not folder.exists():
        create_ome_zarr(folder, (24, 20), "uint8", axes="yx", chunk=16).write(GREY).result()
    (folder / "zarr.json").write_bytes(path.read_bytes())
    return read_image(folder, max_pixels=MAX_PIXELS)


def _read_table(path: Path) -> Any:
    rows = counts_csv.read(path), counts_csv.begin(path, {"model": "nuclei"})
    for aside in path.parent.glob("counts.before-*"):
        aside.unlink()
    return rows


_TABLE = (
    "image,count,n_points,height,width,model,version,status,remarks\n"
    'a.png,12.3,12,24,20,nuclei,0.1.0,ok,\nb.png,4.5,4,24,20,nuclei,0.1.0,ok,"first, of 2"\n'
)
_ZARRAY = {
    "zarr_format": 2, "shape": [24, 20], "chunks": [24, 20], "dtype": "|u1", "order": "C",
    "compressor": None, "fill_value": 0, "filters": None,
}  # fmt: skip
_METRICS = '{"step": 2, "stage": "density", "split": "train", "loss": 0.5}\n'
_ACTS = '{"op": "open", "time": 1.0, "shape": [24, 20]}\n{"op": "add", "time": 2.0, "point": [1]}\n'

IMAGES: dict[str, Target] = {
    "tiff": Target(_read_image, tiffs, "a.tif"),
    "png": Target(_read_image, pillow("PNG"), "a.png"),
    "gif": Target(_read_image, gifs, "a.gif"),
    "jpeg": Target(_read_image, pillow("JPEG"), "a.jpg"),
    "bmp": Target(_read_image, pillow("BMP"), "a.bmp"),
    "webp": Target(
        _read_image,
        lambda: [saved(PIL.Image.fromarray(COLOUR), "WEBP", lossless=True)],
        "a.webp",
    ),
    "jpeg2000": Target(
        _read_image,
        lambda: [saved(PIL.Image.fromarray(COLOUR), "JPEG2000")],
        "a.jp2",
    ),
    "pnm": Target(_read_image, pillow("PPM"), "a.pnm"),
    "npy": Target(
        _read_image,
        lambda: npy(GREY, COLOUR.astype(np.float32)),
        "a.npy",
    ),
    "zarr": Target(_read_zarr, texts(json.dumps(_ZARRAY)), ".zarray"),
    "ome_zarr": Target(_read_ome_zarr, ome_zarr, "zarr.json"),
}

MICROSCOPES: dict[str, Target] = {
    name: target
    for name, package, target in (
        ("nd2", "nd2", Target(_read_image, nd2, "a.nd2")),
        ("czi", "pylibCZIrw", Target(_read_image, czi, "a.czi")),
    )
    if importlib.util.find_spec(package)
}
"""Formats of optional packages, where these are installed."""

DOTS: dict[str, Target] = {
    name: Target(_read_format(name), written(name), "a.dots") for name in dots.FORMAT_NAMES
}

TARGETS: dict[str, Target] = {
    **IMAGES,
    **MICROSCOPES,
    **DOTS,
    "cellpose": Target(_read_format("label_mask"), cellpose, "a_seg.npy"),
    "regions": Target(
        lambda path: regions.read_regions(path, (24, 20)),
        written("geojson"),
        "a.geojson",
    ),
    "named_table": Target(
        lambda path: csv_table.read_rows(path, "image", "group"),
        texts("image,group\na.png,dim\n", 'sep=;\nImage;Group;\na.png;"di ""m";\n'),
        "groups.csv",
    ),
    "pickle": Target(
        _unpickle,
        lambda: [pickle.dumps([1, {"a": (2.0, b"x", "y", None)}], protocol=p) for p in range(6)],
        "a.pkl",
        (pickle.UnpicklingError,),
    ),
    "torch": Target(torch_checkpoint.read_arrays, torch_files, "a.pth"),
    "model_file": Target(model_file.read, model_files, "a.cellcount"),
    "run_json": Target(
        lambda path: run_files.read_json(epath.Path(path)),
        texts('{"schema": 2, "seed": 0, "data": {"name": null}, "mae": 1.5}'),
        "config.json",
    ),
    "metrics": Target(_read_metrics, texts(_METRICS * 3), "metrics.jsonl"),
    "counts_csv": Target(_read_table, texts(_TABLE, "\ufeff" + _TABLE), "counts.csv"),
    "journal": Target(
        lambda path: journal.Journal(path).close(),
        texts(_ACTS),
        "a.journal",
        (journal.JournalError, ValueError),
    ),
}
