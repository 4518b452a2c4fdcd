"""Files that a folder of images of a lab may hold, with what a count must make of each."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import PIL.Image
import tifffile

SIDE, CELLS, DIAMETER = 256, 25, 14


class Odd(NamedTuple):
    """A file and what must come of it.

    Attributes:
      write: Makes it.
      result: "count" (rows with the right count), "zero" (a count of none), "error" (a row with the
        reason), "passed" (no row; the log says so) or "any" (a row or an error).
      rows: How many.
      says: Word in the remark, the status or the log.
    """

    write: Callable[[Path], None]
    result: str
    says: str = ""
    rows: int = 1


def cells(seed: int, n: int = CELLS) -> np.ndarray:
    """Image [256, 256] of 16 bits with this many round cells, none touching."""
    rng = np.random.default_rng(seed)
    points: list[np.ndarray] = []
    while len(points) < n:
        point = rng.uniform(DIAMETER, SIDE - DIAMETER, 2)
        if all(np.hypot(*(point - other)) > 1.5 * DIAMETER for other in points):
            points.append(point)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    image = np.full((SIDE, SIDE), 300.0)
    for y, x in points:
        radius = np.hypot(rows - y, columns - x)
        image += 2700 / (1 + np.exp(np.minimum((radius - DIAMETER / 2) * 1.5, 50)))
    return np.clip(image + rng.normal(0, 20, image.shape), 0, 65535).astype(np.uint16)


IMAGE = cells(100)
BYTES = np.clip(IMAGE / 12, 0, 255).astype(np.uint8)
EMPTY = np.zeros_like(IMAGE)


def _bytes(data: bytes) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(data) and None


def _tiff(array: np.ndarray, **options: Any) -> Callable[[Path], None]:
    return lambda path: tifffile.imwrite(path, array, **options)


def _pillow(array: np.ndarray, mode: str | None = None, **options: Any) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        image = PIL.Image.fromarray(array)
        (image.convert(mode) if mode else image).save(path, **options)

    return write


def _npy(array: np.ndarray) -> Callable[[Path], None]:
    return lambda path: np.save(path, array, allow_pickle=True)


def _cut(write: Callable[[Path], None], share: float = 0.5) -> Callable[[Path], None]:
    def cut(path: Path) -> None:
        write(path)
        data = path.read_bytes()
        path.write_bytes(data[: int(share * len(data))])

    return cut


def _header(shape: str) -> bytes:
    """A NumPy file with this shape in its header and hardly any data."""
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode() + b"\0" * 64


def _channel(values: np.ndarray, number: int, n: int) -> np.ndarray:
    """[H, W, n] with these values in one of n channels."""
    return np.stack([values if i == number else np.zeros_like(values) for i in range(n)], axis=-1)


def _scenes(path: Path) -> None:
    with tifffile.TiffWriter(path, ome=True) as tiff:
        tiff.write(cells(101), metadata={"axes": "YX"})
        tiff.write(cells(102), metadata={"axes": "YX"})


def _endless(path: Path) -> None:
    """A TIFF whose only page is followed by itself."""
    tifffile.imwrite(path, BYTES)
    data = bytearray(path.read_bytes())
    first = int.from_bytes(data[4:8], "little")
    after = first + 2 + 12 * int.from_bytes(data[first : first + 2], "little")
    data[after : after + 4] = data[4:8]
    path.write_bytes(data)


def _rotated(path: Path) -> None:
    exif = PIL.Image.Exif()
    exif[274] = 6
    PIL.Image.fromarray(BYTES).save(path, quality=95, exif=exif)


def _moving(path: Path) -> None:
    frames = [PIL.Image.new("L", (4000, 4000), i % 2) for i in range(3)]
    frames[0].save(path, save_all=True, append_images=frames[1:])


def _with(array: np.ndarray, fill: int, places: Any) -> np.ndarray:
    changed = array.copy()
    changed[places] = fill
    return changed


def _earlier_count(path: Path) -> None:
    """A folder that an earlier count left, with its overlay."""
    path.mkdir()
    (path / "counts.csv").write_text("image,count\n")
    (path / "overlays").mkdir()
    PIL.Image.fromarray(BYTES).save(path / "overlays" / "good.png")


def _broken_zarr(path: Path) -> None:
    path.mkdir()
    (path / ".zattrs").write_text('{"multiscales": [')
    (path / ".zgroup").write_text('{"zarr_format": 2}')


_SALT = (
    np.random.default_rng(5).integers(0, SIDE, 800),
    np.random.default_rng(6).integers(0, SIDE, 800),
)

ODD: dict[str, Odd] = {
    # damaged, hostile or of another type
    "cut.tif": Odd(_cut(_tiff(IMAGE)), "error", "cut short"),
    "cut.png": Odd(_cut(_pillow(BYTES)), "error", "damaged"),
    "cut.jpg": Odd(_cut(_pillow(BYTES)), "error", "damaged"),
    "empty.png": Odd(_bytes(b""), "error", "empty"),
    "text.png": Odd(_bytes(b"this is no image\n" * 9), "error", "known format"),
    "page.jpg": Odd(_bytes(b"<html><body>404</body></html>"), "error", "text"),
    "archive.tif": Odd(_bytes(b"PK\x03\x04" + b"\0" * 60), "error", "zip"),
    "endless.tif": Odd(_endless, "any"),
    "bomb.gif": Odd(_moving, "any"),
    "huge.npy": Odd(_bytes(_header("(1000000, 1000000)")), "error", "cut short"),
    "strange.npy": Odd(_bytes(_header("(True, 8)")), "error"),
    "objects.npy": Odd(_npy(np.array([{"a": 1}], object)), "error"),
    "broken.zarr": Odd(_broken_zarr, "error"),
    "loop.tif": Odd(lambda path: path.symlink_to(path.name), "error", "link"),
    "gone.tif": Odd(lambda path: path.symlink_to("nowhere.tif"), "error", "link"),
    "pipe.tif": Odd(lambda path: os.mkfifo(path), "error", "regular file"),
    "leica.lif": Odd(_bytes(b"\x70\0\0\0" + b"\0" * 60), "passed", "leica.lif"),
    # other programs' outputs
    "good_01_cp_masks.png": Odd(_pillow(BYTES), "passed", "01_cp_masks.png, good_02"),
    "good_02_overlay.png": Odd(_pillow(BYTES), "passed", "01_cp_masks.png, good_02"),
    "day1": Odd(_earlier_count, "passed", "earlier count"),
    # names
    os.fsdecode(b"kr\xe4he.png"): Odd(_pillow(BYTES), "count"),
    "a$x_1$.png": Odd(_pillow(BYTES), "count"),
    "two\r\nlines.png": Odd(_pillow(BYTES), "count"),
    "=1+1.png": Odd(_pillow(BYTES), "count"),
    "n" * 238 + ".png": Odd(_pillow(BYTES), "count"),
    # several images in one file
    "series.tif": Odd(
        _tiff(np.stack([IMAGE] * 3), imagej=True, metadata={"axes": "TYX"}), "count", rows=3
    ),
    "scenes.ome.tif": Odd(_scenes, "count", rows=2),
    "stack.tif": Odd(
        _tiff(np.stack([IMAGE] * 5), imagej=True, metadata={"axes": "ZYX"}), "error", "--per-slice"
    ),
    "channels.tif": Odd(
        _tiff(np.stack([IMAGE, EMPTY]), imagej=True, metadata={"axes": "CYX"}),
        "error", "--channels",
    ),
    # colours and intensities
    "blue.png": Odd(_pillow(_channel(BYTES, 2, 3)), "count", "blue"),
    "alpha.png": Odd(_pillow(np.dstack([BYTES] * 4)), "count", "transparency"),
    "fourth.tif": Odd(_tiff(_channel(IMAGE, 3, 4), photometric="rgb"), "any", "--channels"),
    "12_bits.tif": Odd(_tiff(IMAGE), "count"),
    "8_bits_in_16.tif": Odd(_tiff(BYTES.astype(np.uint16)), "count"),
    "floats.tif": Odd(_tiff((IMAGE / 65535).astype(np.float32)), "count"),
    "not_a_number.tif": Odd(
        _tiff(_with(IMAGE.astype(np.float32), np.nan, np.s_[:9, :9])), "any", "not"
    ),
    "stitched.tif": Odd(_tiff(_with(IMAGE, 65535, np.s_[:12])), "count", "fill"),
    "hot.tif": Odd(_tiff(_with(IMAGE, 65535, np.s_[100:101, 100:101])), "count", "hot"),
    "salt.tif": Odd(_tiff(_with(IMAGE, 65535, _SALT)), "count", "hot"),
    "rotated.jpg": Odd(_rotated, "count", "rotated upright"),
}  # fmt: skip
