"""Small valid files of every kind that `fuzz` begins from.

Seeds are written in the folder of the process, which is a temporary one.
"""

import importlib
import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import safetensors.numpy
import tifffile

from cellcount_jax.inference import model_file
from cellcount_jax.io.annotations import dots
from cellcount_jax.io.write_ome import create_ome_zarr
from tests.io.images.nd2_writer import nd2_bytes

Seeds = Callable[[], list[bytes]]

CELL_DOTS = dots.Dots(
    np.array([[3.0, 4.0], [10.5, 7.25], [20.0, 21.0]]), np.array([0.9, 0.8, 0.3]), ["a", "b", "a"]
)

GREY = (np.arange(24 * 20).reshape(24, 20) * 37 % 256).astype(np.uint8)
COLOUR = np.stack([GREY, GREY[::-1], GREY.T.reshape(24, 20)], axis=-1)
LABELS = np.kron(np.arange(1, 10).reshape(3, 3), np.ones((5, 5), int)).astype(np.uint16)
LABELS[:, ::5] = LABELS[::5] = 0


def pillow(format: str, **options: Any) -> Seeds:
    def seeds() -> list[bytes]:
        grey = PIL.Image.fromarray(GREY)
        images = [grey, PIL.Image.fromarray(COLOUR), grey.convert("P"), grey.convert("1")]
        if format in ("JPEG", "PPM"):
            images = images[:2]
        return [saved(image, format, **options) for image in images]

    return seeds


def saved(image: PIL.Image.Image, format: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def gifs() -> list[bytes]:
    frames = [PIL.Image.fromarray(np.roll(GREY, i)) for i in range(3)]
    moving = saved(frames[0], "GIF", save_all=True, append_images=frames[1:])
    return [*pillow("GIF")(), moving]


def tiffs() -> list[bytes]:
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


def npy(*arrays: Any) -> list[bytes]:
    found = []
    for array in arrays:
        out = io.BytesIO()
        np.save(out, array, allow_pickle=True)
        found.append(out.getvalue())
    return found


def nd2() -> list[bytes]:
    stack = np.stack([GREY, GREY[::-1]], axis=-1)[None].astype(np.uint16)
    return [
        nd2_bytes(np.repeat(stack, n, axis=0), step=1.5, pixel=0.3, channels=("DAPI", "GFP"))
        for n in (1, 3)
    ]


def czi() -> list[bytes]:
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


def cellpose() -> list[bytes]:
    return npy({"masks": LABELS, "outlines": LABELS, "filename": "a.tif", "diams": 12.0})


def written(format: str) -> Seeds:
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


def texts(*texts: str) -> Seeds:
    return lambda: [text.encode() for text in texts]


def torch_files() -> list[bytes]:
    stored = io.BytesIO()
    with zipfile.ZipFile(stored, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"a.weight": 1}, protocol=2))
        archive.writestr("archive/byteorder", "little")
        archive.writestr("archive/data/0", np.zeros(4, np.float32).tobytes())
    magic, protocol = 0x1950A86A20F9469CFC6C, 1001
    facts = ({"little_endian": True}, {"a.weight": 1}, [])
    stream = b"".join(pickle.dumps(part, protocol=2) for part in (magic, protocol, *facts))
    return [stored.getvalue(), stream]


def model_files() -> list[bytes]:
    arrays = {"params/a/kernel": np.ones((3, 2), np.float32), "params/b": np.zeros(2, np.float16)}
    header: dict[str, Any] = {
        "format": 2, "empty": ["state"],
        "facts": {"method": "density", "weights": {"dtype": "float16"}},
    }  # fmt: skip
    header["sha256"] = model_file.digest(arrays, header)
    return [safetensors.numpy.save(arrays, {model_file.METADATA_KEY: json.dumps(header)})]


def ome_zarr() -> list[bytes]:
    create_ome_zarr(Path("seed.zarr"), (24, 20), "uint8", axes="yx", chunk=16, spacing=(0.5, 0.5))
    return [Path("seed.zarr/zarr.json").read_bytes(), Path("seed.zarr/0/zarr.json").read_bytes()]
