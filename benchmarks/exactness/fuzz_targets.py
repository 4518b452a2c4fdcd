"""The parsers that `fuzz` tries, each with small files to begin from and the errors it may raise.

Imported under instrumentation; every import of a parser belongs at the top of this file.
"""

import importlib.util
import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import PIL.Image
import safetensors.numpy
import tifffile
from etils import epath

from cellcount_jax.annotation import journal
from cellcount_jax.inference import model_file
from cellcount_jax.io import regions, safe_pickle
from cellcount_jax.io.annotations import csv_table, dots
from cellcount_jax.io.images.image import read_image
from cellcount_jax.io.write_ome import create_ome_zarr
from cellcount_jax.models.weights import torch_checkpoint
from cellcount_jax.prediction import counts_csv
from cellcount_jax.runtime import run_files
from tests.io.images.nd2_writer import nd2_bytes

MAX_PIXELS = 2**24
"""Most values that the readers of images may decode: far more than a damaged file needs to fail."""

Seeds = Callable[[], list[bytes]]

CELL_DOTS = dots.Dots(
    np.array([[3.0, 4.0], [10.5, 7.25], [20.0, 21.0]]), np.array([0.9, 0.8, 0.3]), ["a", "b", "a"]
)

GREY = (np.arange(24 * 20).reshape(24, 20) * 37 % 256).astype(np.uint8)
COLOUR = np.stack([GREY, GREY[::-1], GREY.T.reshape(24, 20)], axis=-1)
LABELS = np.kron(np.arange(1, 10).reshape(3, 3), np.ones((5, 5), int)).astype(np.uint16)
LABELS[:, ::5] = LABELS[::5] = 0


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


def _pillow(format: str, **options: Any) -> Seeds:
    def seeds() -> list[bytes]:
        grey = PIL.Image.fromarray(GREY)
        images = [grey, PIL.Image.fromarray(COLOUR), grey.convert("P"), grey.convert("1")]
        if format in ("JPEG", "PPM"):
            images = images[:2]
        return [_saved(image, format, **options) for image in images]

    return seeds


def _saved(image: PIL.Image.Image, format: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def _gifs() -> list[bytes]:
    frames = [PIL.Image.fromarray(np.roll(GREY, i)) for i in range(3)]
    moving = _saved(frames[0], "GIF", save_all=True, append_images=frames[1:])
    return [*_pillow("GIF")(), moving]


def _tiffs() -> list[bytes]:
    kinds: list[tuple[np.ndarray, dict[str, Any]]] = [
        (GREY, {}),
        (COLOUR, {"compression": "zlib", "predictor": True}),
        (GREY.astype(np.uint16), {"compression": "lzw", "tile": (16, 16)}),
        (np.stack([GREY] * 3), {"imagej": True, "metadata": {"axes": "ZYX", "spacing": 2.0}}),
        (np.stack([GREY] * 2), {"ome": True, "metadata": {"axes": "CYX"}}),
        (GREY.astype(np.float32), {"bigtiff": True, "resolution": (10000, 10000)}),
    ]
    return [_tiff(array, **options) for array, options in kinds]


def _tiff(array: np.ndarray, **options: Any) -> bytes:
    out = io.BytesIO()
    tifffile.imwrite(out, array, **options)
    return out.getvalue()


def _npy(*arrays: Any) -> list[bytes]:
    found = []
    for array in arrays:
        out = io.BytesIO()
        np.save(out, array, allow_pickle=True)
        found.append(out.getvalue())
    return found


def _nd2() -> list[bytes]:
    stack = np.stack([GREY, GREY[::-1]], axis=-1)[None].astype(np.uint16)
    return [
        nd2_bytes(np.repeat(stack, n, axis=0), step=1.5, pixel=0.3, channels=("DAPI", "GFP"))
        for n in (1, 3)
    ]


def _czi() -> list[bytes]:
    czi = importlib.import_module("pylibCZIrw.czi")
    grey, found = GREY[..., None], []
    planes = [({"Z": z, "C": c}, grey + z + c) for z in range(2) for c in range(2)]
    for written in ([({}, COLOUR)], planes):
        path = Path(f"seed{len(found)}.czi")
        with czi.create_czi(str(path)) as file:
            for plane, pixels in written:
                file.write(np.ascontiguousarray(pixels), plane=plane)
            file.write_metadata("seed", scale_x=3e-7, scale_y=4e-7, scale_z=1.5e-6)
        found.append(path.read_bytes())
    return found


def _cellpose() -> list[bytes]:
    return _npy({"masks": LABELS, "outlines": LABELS, "filename": "a.tif", "diams": 12.0})


def _written(format: str) -> Seeds:
    """What the package itself writes in a format, flat and, where it can, in a volume."""

    def seeds() -> list[bytes]:
        volume = dots.Dots(np.array([[1.0, 3.0, 4.0], [2.0, 10.0, 7.0]]))
        found = []
        for given, shape in ((CELL_DOTS, (24, 24)), (volume, (4, 24, 24))):
            path = Path("seed.png" if len(shape) == 2 else "seed.tif")
            try:
                dots.write_dots(path, given, format=format, image_shape=shape)
            except ValueError:
                continue  # no volumes in this format
            found.append(path.read_bytes())
            path.unlink()
        return found

    return seeds


def _texts(*texts: str) -> Seeds:
    return lambda: [text.encode() for text in texts]


def _torch() -> list[bytes]:
    stored = io.BytesIO()
    with zipfile.ZipFile(stored, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"a.weight": 1}, protocol=2))
        archive.writestr("archive/byteorder", "little")
        archive.writestr("archive/data/0", np.zeros(4, np.float32).tobytes())
    magic, protocol = 0x1950A86A20F9469CFC6C, 1001
    facts = ({"little_endian": True}, {"a.weight": 1}, [])
    stream = b"".join(pickle.dumps(part, protocol=2) for part in (magic, protocol, *facts))
    return [stored.getvalue(), stream]


def _model_files() -> list[bytes]:
    arrays = {"params/a/kernel": np.ones((3, 2), np.float32), "params/b": np.zeros(2, np.float16)}
    header: dict[str, Any] = {
        "format": 2, "empty": ["state"],
        "facts": {"method": "density", "weights": {"dtype": "float16"}},
    }  # fmt: skip
    header["sha256"] = model_file.digest(arrays, header)
    return [safetensors.numpy.save(arrays, {model_file.METADATA_KEY: json.dumps(header)})]


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


def _ome_zarr() -> list[bytes]:
    create_ome_zarr(Path("seed.zarr"), (24, 20), "uint8", axes="yx", chunk=16, spacing=(0.5, 0.5))
    return [Path("seed.zarr/zarr.json").read_bytes(), Path("seed.zarr/0/zarr.json").read_bytes()]


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
    "tiff": Target(_read_image, _tiffs, "a.tif"),
    "png": Target(_read_image, _pillow("PNG"), "a.png"),
    "gif": Target(_read_image, _gifs, "a.gif"),
    "jpeg": Target(_read_image, _pillow("JPEG"), "a.jpg"),
    "bmp": Target(_read_image, _pillow("BMP"), "a.bmp"),
    "webp": Target(
        _read_image, lambda: [_saved(PIL.Image.fromarray(COLOUR), "WEBP", lossless=True)], "a.webp"
    ),
    "jpeg2000": Target(
        _read_image, lambda: [_saved(PIL.Image.fromarray(COLOUR), "JPEG2000")], "a.jp2"
    ),
    "pnm": Target(_read_image, _pillow("PPM"), "a.pnm"),
    "npy": Target(_read_image, lambda: _npy(GREY, COLOUR.astype(np.float32)), "a.npy"),
    "zarr": Target(_read_zarr, _texts(json.dumps(_ZARRAY)), ".zarray"),
    "ome_zarr": Target(_read_ome_zarr, _ome_zarr, "zarr.json"),
}

MICROSCOPES: dict[str, Target] = {
    name: target
    for name, package, target in (
        ("nd2", "nd2", Target(_read_image, _nd2, "a.nd2")),
        ("czi", "pylibCZIrw", Target(_read_image, _czi, "a.czi")),
    )
    if importlib.util.find_spec(package)
}
"""Formats of optional packages, where these are installed."""

DOTS: dict[str, Target] = {
    name: Target(_read_format(name), _written(name), "a.dots") for name in dots.FORMAT_NAMES
}

TARGETS: dict[str, Target] = {
    **IMAGES,
    **MICROSCOPES,
    **DOTS,
    "cellpose": Target(_read_format("label_mask"), _cellpose, "a_seg.npy"),
    "regions": Target(
        lambda path: regions.read_regions(path, (24, 20)), _written("geojson"), "a.geojson"
    ),
    "named_table": Target(
        lambda path: csv_table.read_rows(path, "image", "group"),
        _texts("image,group\na.png,dim\n", 'sep=;\nImage;Group;\na.png;"di ""m";\n'),
        "groups.csv",
    ),
    "pickle": Target(
        _unpickle,
        lambda: [pickle.dumps([1, {"a": (2.0, b"x", "y", None)}], protocol=p) for p in range(6)],
        "a.pkl",
        (pickle.UnpicklingError,),
    ),
    "torch": Target(torch_checkpoint.read_arrays, _torch, "a.pth"),
    "model_file": Target(model_file.read, _model_files, "a.cellcount"),
    "run_json": Target(
        lambda path: run_files.read_json(epath.Path(path)),
        _texts('{"schema": 2, "seed": 0, "data": {"name": null}, "mae": 1.5}'),
        "config.json",
    ),
    "metrics": Target(_read_metrics, _texts(_METRICS * 3), "metrics.jsonl"),
    "counts_csv": Target(_read_table, _texts(_TABLE, "\ufeff" + _TABLE), "counts.csv"),
    "journal": Target(
        lambda path: journal.Journal(path).close(),
        _texts(_ACTS),
        "a.journal",
        (journal.JournalError, ValueError),
    ),
}
