"""Damaged files of every format give one clear line or are read, whatever the damage."""

import io
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import tifffile

from cellcount_jax.io.annotations import dots

_FILES = 200


def _some_dots(ndim: int) -> dots.Dots:
    rng = np.random.default_rng(ndim)
    points = rng.choice(20, (12, ndim), replace=True) + np.arange(12)[:, None] % 4
    points = np.unique(points, axis=0).astype(np.float32)
    labels = ["a" if i % 3 else "b" for i in range(len(points))]
    return dots.Dots(points, rng.random(len(points)), labels)


def _written(format: str, extension: str, ndim: int = 2) -> Callable[[Path], bytes]:
    def make(folder: Path) -> bytes:
        path = folder / f"whole{extension}"
        dots.write_dots(path, _some_dots(ndim), format=format, image_shape=(24,) * ndim)
        return path.read_bytes()

    return make


def _jpeg(folder: Path) -> bytes:
    pixels = np.zeros((24, 24, 3), np.uint8)
    pixels[3:21:6, 3:21:6] = 255, 0, 0
    out = io.BytesIO()
    PIL.Image.fromarray(pixels).save(out, "JPEG", quality=100, subsampling=0)
    return out.getvalue()


def _mask() -> np.ndarray:
    mask = np.zeros((24, 24), np.uint16)
    for i in range(9):
        mask[i // 3 * 8 + 1 : i // 3 * 8 + 6, i % 3 * 8 + 1 : i % 3 * 8 + 5] = i + 1
    return mask


def _tiff(compression: str | None) -> Callable[[Path], bytes]:
    def make(folder: Path) -> bytes:
        out = io.BytesIO()
        tifffile.imwrite(out, _mask(), compression=compression)
        return out.getvalue()

    return make


def _cellpose(folder: Path) -> bytes:
    out = io.BytesIO()
    content = {
        "outlines": _mask(),
        "masks": _mask(),
        "ismanual": np.zeros(9, bool),
        "filename": "a",
    }
    np.save(out, content, allow_pickle=True)
    return out.getvalue()


_WHOLE: dict[str, Callable[[Path], bytes]] = {
    "csv": _written("csv", ".csv"),
    "csv_3d": _written("csv", ".csv", 3),
    "napari": _written("napari", ".csv"),
    "spotiflow": lambda folder: b"y,x,intensity,probability\n1.5,2.5,100.0,0.9\n3.0,4.0,80.5,0.7\n",
    "excel": lambda folder: b"\xef\xbb\xbfsep=;\r\nX;Y;Label\r\n1,5;2,25;a\r\n3,0;4,75;b\r\n",
    "qupath_tsv": _written("qupath_tsv", ".tsv", 3),
    "geojson": _written("geojson", ".geojson", 3),
    "labelme": _written("labelme", ".json"),
    "coco": _written("coco", ".json"),
    "cell_counter": _written("cell_counter", ".xml", 3),
    "roi": _written("roi", ".roi", 3),
    "roi_zip": _written("roi_zip", ".zip", 3),
    "dots_png": _written("dots_image", ".png"),
    "dots_jpeg": _jpeg,
    "mask_png": _written("label_mask", ".png"),
    "mask_tiff": _tiff(None),
    "mask_tiff_zlib": _tiff("zlib"),
    "mask_tiff_lzw": _tiff("lzw"),
    "mask_npy": _written("label_mask", ".npy"),
    "cellpose": _cellpose,
}


def mutate(data: bytes, rng: np.random.Generator) -> bytes:
    """One of: flipped bits, cut end, bytes taken out, put in, or repeated, words replaced."""
    work = bytearray(data)
    at = int(rng.integers(len(work)))
    kind = rng.integers(6)
    if kind == 0:
        for _ in range(rng.integers(1, 9)):
            work[rng.integers(len(work))] ^= 1 << int(rng.integers(8))
    elif kind == 1:
        del work[at:]
    elif kind == 2:
        del work[at : at + int(rng.integers(1, 40))]
    elif kind == 3:
        work[at:at] = rng.bytes(int(rng.integers(1, 20)))
    elif kind == 4:
        work[at:at] = work[at : at + int(rng.integers(1, 60))]
    else:
        words = (
            b"nan",
            b"inf",
            b"-",
            b'"',
            b"\n",
            b"\0",
            b"1e999",
            b"{",
            b"]",
            b"<",
            b"\xff\xff\xff",
        )
        work[at : at + 2] = words[rng.integers(len(words))]
    return bytes(work)


def _failed_well(path: Path, **options) -> bool:
    """Whether reading failed; if so it must be in one clear line, else without NaN."""
    failure = None
    try:
        read = dots.read_dots(path, **options)
    except ValueError as error:
        failure = error
    if failure is None:
        assert np.isfinite(read.points).all()
        assert read.scores is None or np.isfinite(read.scores).all()
        return False
    assert type(failure) is ValueError
    assert str(failure).startswith(str(path))
    assert "\n" not in str(failure)
    assert len(str(failure)) < 600
    return True


@pytest.mark.parametrize("name", list(_WHOLE))
def test_damaged_files_fail_in_one_line_or_are_read(name: str, tmp_path: Path):
    data = _WHOLE[name](tmp_path)
    path = tmp_path / "damaged"
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    failures = 0
    for i in range(_FILES):
        path.write_bytes(mutate(data, rng))
        failures += _failed_well(path, image_shape=(24, 24) if i % 4 == 1 else None)
    # Without any failure the damage would not have reached the reader.
    assert failures > _FILES / 20


@pytest.mark.parametrize("name", list(_WHOLE))
def test_the_undamaged_file_is_read(name: str, tmp_path: Path):
    path = tmp_path / "whole"
    path.write_bytes(_WHOLE[name](tmp_path))
    assert len(dots.read_dots(path)) >= 2


@pytest.mark.parametrize("format", dots.FORMAT_NAMES)
def test_a_file_of_another_format_fails_in_one_line(format: str, tmp_path: Path):
    path = tmp_path / "other"
    for make in _WHOLE.values():
        path.write_bytes(make(tmp_path))
        _failed_well(path, format=format)
