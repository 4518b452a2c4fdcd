"""Files that cannot be counted, or have odd names, get rows; the others are counted."""

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from cellcount_jax.inference import window_pass
from cellcount_jax.io.images.image import open_lazy
from cellcount_jax.prediction import predict_files
from cellcount_jax.prediction.find_images import find_images
from tests.inference.made_counters import cells
from tests.io.images.image_writers import mutations, npy_bytes, tiff_bytes, write_ome_zarr
from tests.prediction.made_files import rows_of, save


def hostile() -> dict[str, bytes]:
    """Files that cannot be counted, named after the reason."""
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 255, (30, 30), np.uint8)
    png = io.BytesIO()
    Image.fromarray(grey).save(png, "PNG")
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    ihdr = b"IHDR" + header
    huge = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + ihdr
    huge += struct.pack(">I", zlib.crc32(ihdr)) + struct.pack(">I", 0) + b"IDAT"
    nan, inf = np.ones((9, 9), np.float32), np.ones((9, 9), np.float32)
    nan[3, 3], inf[4, 4] = np.nan, -np.inf
    return {
        "empty.png": b"",
        "truncated.png": png.getvalue()[:200],
        "truncated.tif": tiff_bytes(grey, rowsperstrip=5, compression="zlib")[:400],
        "text.jpg": b"these are words",
        "html.tif": b"<html></html>",
        "no_channels.npy": npy_bytes(np.zeros((5, 5, 0))),
        "no_pixels.npy": npy_bytes(np.zeros((0, 5))),
        "nan.npy": npy_bytes(nan),
        "inf.tif": tiff_bytes(inf),
        "complex.npy": npy_bytes(np.zeros((5, 5), complex)),
        "huge.png": huge,
        "objects.npy": npy_bytes(np.array([[object()]])),
        "many_channels.npy": npy_bytes(np.zeros((5, 5, 3, 7, 2, 2), np.uint8)),
        "zip.tif": b"PK\x03\x04" + bytes(90),
    }


def odd() -> dict[str, bytes]:
    """Unusual files that are images all the same."""
    rng = np.random.default_rng(1)
    colours = rng.integers(0, 255, (20, 20, 4), np.uint8)
    kept = {}
    for mode in ("RGBA", "CMYK", "P", "1", "LA"):
        data = io.BytesIO()
        image = Image.fromarray(colours, "RGBA" if mode != "CMYK" else "CMYK")
        image.convert(mode).save(data, "TIFF")
        kept[f"{mode}.tif"] = data.getvalue()
    kept["one_pixel.png"] = kept["RGBA.tif"][:0] + tiff_bytes(np.ones((1, 1), np.uint8))
    kept["one_row.tif"] = tiff_bytes(rng.integers(0, 9, (1, 50), np.uint8))
    kept["long.npy"] = npy_bytes(rng.integers(0, 2**40, (9, 9)))
    kept["wrong_extension.png"] = npy_bytes(rng.random((12, 12)))
    return kept


def write_hostile(folder: Path, damaged: int) -> None:
    for name, data in hostile().items():
        (folder / name).write_bytes(data)
    source = io.BytesIO()
    Image.fromarray(cells((24, 24))).save(source, "PNG")
    for i, data in enumerate(mutations(source.getvalue(), damaged)):
        (folder / f"damaged{i}.png").write_bytes(data)
    zarr = write_ome_zarr(folder / "broken.zarr", cells((24, 24))[..., 0], "yx")
    (zarr / "s0" / ".zarray").write_text("{")


def check_hostile(counter, folder: Path, damaged: int, good: int) -> None:
    write_hostile(folder, damaged)
    for name, data in odd().items():
        (folder / name).write_bytes(data)
    for i in range(good):
        Image.fromarray(cells((24, 24), i)).save(folder / f"good{i}.png")
    zarr = write_ome_zarr(folder / "holes.zarr", cells((24, 24))[..., 0], "yx")
    next(p for p in sorted((zarr / "s0").rglob("*")) if p.is_file() and p.name == "0").unlink()
    out = folder.parent / "out"
    paths = find_images(folder, out)
    failed = predict_files.predict_files(counter, paths, out, model="m")
    rows = {Path(row["image"]).name: row for row in rows_of(out / "counts.csv")}
    assert len(rows) == len(paths)
    for i in range(good):
        assert rows[f"good{i}.png"]["status"] == "ok"
        assert float(rows[f"good{i}.png"]["count"]) > 0
    for name in (*odd(), "holes.zarr"):
        assert rows[name]["status"] == "ok", rows[name]["status"]
        assert np.isfinite(float(rows[name]["count"]))
    for name in (*hostile(), "broken.zarr"):
        status = rows[name]["status"]
        assert status.startswith("error: "), name
        assert str(folder / name) in status
        assert "\n" not in status
        assert len(status) < 700
    assert failed == sum(row["status"] != "ok" for row in rows.values()) >= len(hostile())


def test_hostile_files_leave_a_row_each_and_the_good_ones_are_counted(counter, tmp_path):
    (folder := tmp_path / "in").mkdir()
    check_hostile(counter, folder, damaged=6, good=3)


@pytest.mark.slow
def test_three_hundred_hostile_files_and_twenty_good_ones(counter, tmp_path):
    (folder := tmp_path / "in").mkdir()
    check_hostile(counter, folder, damaged=286, good=20)


def test_a_large_image_that_holds_next_to_nothing_is_refused(counter, tmp_path, monkeypatch):
    monkeypatch.setattr(window_pass, "PIXELS_IN_MEMORY", 1000)
    zarr = write_ome_zarr(
        tmp_path / "a.zarr", np.zeros((9000, 9000), np.uint8), "yx", levels=("s0",)
    )
    for file in (zarr / "s0").rglob("*"):
        if file.is_file() and not file.name.startswith("."):
            file.unlink()
    assert predict_files.predict_files(counter, [zarr], tmp_path / "out", model="m") == 1
    (row,) = rows_of(tmp_path / "out" / "counts.csv")
    assert "GiB of pixels and holds" in row["status"]
    with open_lazy(zarr) as image:
        assert image.space_shape == (9000, 9000)


@pytest.mark.parametrize(
    "name",
    ["m\udce4use.png", "a\rb.png", "a\nb.png", "=1+1.png", "$x_1$.png"],
    ids=["latin-1", "carriage return", "line break", "formula", "dollar"],
)
def test_names_of_any_kind_have_a_row_that_is_read_again(counter, tmp_path, monkeypatch, name):
    folder = tmp_path / "images"
    save(folder / "a.png", 0).rename(folder / name)
    save(folder / "z.png", 1)
    monkeypatch.chdir(folder)
    rows = counter.count_files([Path(name), Path("z.png")], out=tmp_path / "out", model="m")
    assert [row["status"] for row in rows] == ["ok", "ok"]
    assert rows[0]["image"].isprintable()
    assert rows[0]["image"][0] not in "=+-@"
    again = counter.count_files([Path(name), Path("z.png")], out=tmp_path / "out", model="m")
    assert again == rows
    assert len(list((tmp_path / "out" / "points").iterdir())) == 2


def test_links_to_themselves_and_pipes_get_a_row_and_the_rest_is_counted(counter, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "a_loop.tif").symlink_to("a_loop.tif")
    (folder / "b_gone.tif").symlink_to("nowhere.tif")
    os.mkfifo(folder / "c_pipe.tif")
    tifffile.imwrite(folder / "d.tif", cells((40, 32))[..., 0])
    *failed, good = counter.count_files(folder, out=tmp_path / "out", model="m")
    says = ("to itself", "is a link to a file that is not there", "but a pipe")
    assert [say in row["status"] for say, row in zip(says, failed, strict=True)] == [True] * 3
    assert good["status"] == "ok"
