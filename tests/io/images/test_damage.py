"""Damaged and hostile files: one clear line, never another error or a wrong image."""

import logging
import os
import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from cellcount_jax.io.images.image import (
    ImageError,
    count_steps,
    open_lazy,
    read_image,
    read_stored,
)
from tests.io.images.image_writers import (
    mutations,
    npy_bytes,
    pillow_bytes,
    pixels,
    tiff_bytes,
    write_ome_zarr,
)

GREY, RGB = pixels(24, 20), pixels(24, 20, 3)
STACK = pixels(5, 16, 18, dtype="uint16")
FLOATS = pixels(20, 20, dtype="float32")
ZYX = {"axes": "ZYX"}

FORMATS = {
    "png": pillow_bytes(RGB, "PNG"),
    "jpeg": pillow_bytes(RGB, "JPEG"),
    "bmp": pillow_bytes(RGB, "BMP"),
    "gif": pillow_bytes(GREY, "GIF"),
    "webp": pillow_bytes(RGB, "WEBP"),
    "jpeg2000": pillow_bytes(RGB, "JPEG2000"),
    "tiff": tiff_bytes(GREY),
    "tiff of one bit": tiff_bytes(GREY > 99),
    "lzw": tiff_bytes(GREY, compression="lzw", rowsperstrip=7),
    "tiles": tiff_bytes(RGB, tile=(16, 16), compression="zlib", photometric="rgb"),
    "jpeg tiles": tiff_bytes(RGB, tile=(16, 16), compression="jpeg", photometric="rgb"),
    "floats": tiff_bytes(FLOATS, compression="zstd", predictor=True),
    "pages": tiff_bytes(STACK, compression="zlib"),
    "plain pages": tiff_bytes(STACK, metadata=None, compression="zlib"),
    "imagej": tiff_bytes(STACK, imagej=True, metadata=ZYX | {"unit": "um", "spacing": 2.0}),
    "ome": tiff_bytes(STACK, ome=True, metadata=ZYX),
    "bigtiff": tiff_bytes(STACK, ome=True, metadata=ZYX, bigtiff=True, tile=(16, 16)),
    "npy": npy_bytes(FLOATS),
}
STACKS = ("pages", "plain pages", "imagej", "ome", "bigtiff")


def read_or_refuse(path: Path) -> np.ndarray | None:
    """The pixels, or None if the file was refused in one line that begins with its name."""
    found, message = None, f"{path}: "
    try:
        found = read_image(path).pixels
    except ImageError as error:
        message = str(error)
    assert message.startswith(f"{path}: ")
    assert len(message.splitlines()) == 1
    if found is not None:
        assert found.ndim in (3, 4)
        assert found.size > 0
        assert found.dtype.kind in "buif"
    return found


@pytest.mark.parametrize("name", FORMATS)
def test_two_hundred_damaged_files(tmp_path: Path, name: str) -> None:
    path = tmp_path / "damaged"
    refused = 0
    for data in mutations(FORMATS[name], 200):
        path.write_bytes(data)
        refused += read_or_refuse(path) is None
    assert refused > 20


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_two_hundred_damaged_zarr_folders(tmp_path: Path, version: str) -> None:
    group = write_ome_zarr(tmp_path / "a.zarr", STACK, "zyx", version=version)
    files = sorted(p for p in group.rglob("*") if p.is_file() and "s1" not in p.parts)
    refused = 0
    for number, path in enumerate(files):
        whole = path.read_bytes()
        for data in mutations(whole, 200 // len(files) + 1, seed=number):
            path.write_bytes(data)
            refused += read_or_refuse(group) is None
        path.write_bytes(whole)
    assert refused > 20
    np.testing.assert_array_equal(read_image(group).pixels[..., 0], STACK)


@pytest.mark.parametrize("name", STACKS)
def test_a_stack_that_is_cut_short_never_becomes_a_thinner_one(tmp_path: Path, name: str) -> None:
    whole, path = FORMATS[name], tmp_path / "short"
    for length in range(0, len(whole), 61):
        path.write_bytes(whole[:length])
        found = read_or_refuse(path)
        assert found is None or found.shape == (5, 16, 18, 1), length


@pytest.mark.parametrize("silencing", ["none", "level", "logging.disable", "disabled logger"])
def test_a_caller_who_silences_the_library_is_told_of_damage(
    tmp_path: Path, silencing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = logging.getLogger("tifffile")
    monkeypatch.setattr(log, "disabled", silencing == "disabled logger")
    log.setLevel(logging.CRITICAL if silencing == "level" else logging.NOTSET)
    logging.disable(logging.CRITICAL if silencing == "logging.disable" else logging.NOTSET)
    path, whole = tmp_path / "damaged.tif", FORMATS["pages"]
    path.write_bytes(whole[: len(whole) * 3 // 4])
    try:
        with pytest.raises(ImageError, match="is damaged"):
            read_image(path)
        assert log.disabled == (silencing == "disabled logger")
    finally:
        logging.disable(logging.NOTSET)
        log.setLevel(logging.NOTSET)


def test_a_box_of_jpeg_2000_that_declares_gigabytes_takes_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.jp2"
    signature = b"\0\0\0\x0cjP  \r\n\x87\n"
    header = struct.pack(">I4sQ", 1, b"jp2h", 9 * 10**10) + b"ihdr"
    path.write_bytes(signature + header)
    with pytest.raises(ImageError, match="not readable"):
        read_image(path)


@pytest.mark.parametrize("place", range(37, 55))
def test_pages_without_end_are_refused(tmp_path: Path, place: int) -> None:
    """With these bytes, tifffile would go through the same damaged pages for hours."""
    data = tiff_bytes(np.zeros((24, 24), np.uint16), compression="zlib")
    path = tmp_path / "endless.tif"
    path.write_bytes(data[:place] + bytes(8) + data[place:])
    assert read_or_refuse(path) is None


@pytest.mark.parametrize("n", [150, 800])
def test_a_cycle_of_many_pages_is_refused(tmp_path: Path, n: int) -> None:
    pages = [struct.pack("<HI", 0, 8 + 6 * ((i + 1) % n)) for i in range(n)]
    path = tmp_path / "a.tif"
    path.write_bytes(b"II*\0" + struct.pack("<I", 8) + b"".join(pages))
    with pytest.raises(ImageError, match="its pages form a cycle"):
        read_image(path)


def test_billions_of_planes_and_strips_are_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.tif"
    text = tifffile.OmeXml()
    text.addimage("uint16", STACK.shape, (5, 1, 1, 16, 18, 1), axes="ZYX")
    named = text.tostring().replace('SizeT="1"', 'SizeT="900000000"')
    tifffile.imwrite(path, STACK, description=named, metadata=None)
    with pytest.raises(ImageError, match="name 4500000000 planes"):
        open_lazy(path)
    path, plane = tmp_path / "a.tif", np.zeros((2, 8), np.uint8)
    tifffile.imwrite(path, plane, rowsperstrip=1, compression="zlib", metadata=None)
    height = struct.pack("<HHII", 257, 4, 1, 2**26)
    path.write_bytes(path.read_bytes().replace(struct.pack("<HHII", 257, 4, 1, 2), height))
    tracemalloc.start()
    try:
        with pytest.raises(ImageError, match="lacks tiles or strips"):
            read_image(path)
        assert tracemalloc.get_traced_memory()[1] < 2**30
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("compression", [None, "packbits"])
def test_values_that_a_file_lacks_are_named(tmp_path: Path, compression: str | None) -> None:
    path = tmp_path / "short.tif"
    path.write_bytes(tiff_bytes(GREY, rowsperstrip=7, compression=compression)[:-3])
    with pytest.raises(ImageError, match="is cut short: it declares more than it holds"):
        read_image(path)


def test_strips_that_are_missing_are_an_error_and_tiles_are_empty(tmp_path: Path) -> None:
    path = tmp_path / "sparse.tif"
    for options in ({"rowsperstrip": 8}, {"tile": (16, 16)}):
        path.write_bytes(tiff_bytes(GREY, compression="zlib", **options))
        with tifffile.TiffFile(path, mode="r+b") as file:
            tags = file.pages[0].tags
            for name in ("StripByteCounts", "TileByteCounts"):
                if name in tags:
                    tags[name].overwrite((0, *tags[name].value[1:]))
        if "tile" in options:
            expected = GREY.copy()
            expected[:16, :16] = 0
            np.testing.assert_array_equal(read_image(path).pixels[..., 0], expected)
            with pytest.raises(ImageError, match="pixels are missing"):
                read_stored(path)
        else:
            with pytest.raises(ImageError, match="lacks strips"):
                read_image(path)


def test_missing_files_of_a_set_are_an_error(tmp_path: Path) -> None:
    data = tiff_bytes(STACK, ome=True, metadata=ZYX)
    with tifffile.TiffFile(_saved(tmp_path, data)) as file:
        xml = file.ome_metadata or ""
    more = xml.replace('SizeZ="5"', 'SizeZ="7"')
    path = _saved(tmp_path, tiff_bytes(STACK, description=more.encode(), metadata=None))
    with pytest.raises(ImageError, match="missing 2 frames"):
        read_image(path)


def _saved(folder: Path, data: bytes) -> Path:
    (folder / "x.ome.tif").write_bytes(data)
    return folder / "x.ome.tif"


def png_of(width: int, height: int) -> bytes:
    """A PNG that declares a size and holds nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    return start + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def test_a_huge_declared_size_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb"
    path.write_bytes(png_of(60000, 60000))
    with pytest.raises(ImageError, match=r"10800000000 values .*raise max_pixels or read it by"):
        read_image(path)
    path.write_bytes(FORMATS["tiles"])
    with pytest.raises(ImageError, match=r"1440 values \(limit 1000\)"):
        read_image(path, max_pixels=1000)
    with open_lazy(path, max_pixels=1000) as lazy:
        np.testing.assert_array_equal(lazy.read(), RGB)
    with pytest.raises(ImageError, match="pieces of 768 values"):
        open_lazy(path, max_pixels=100)


def test_a_small_file_of_many_large_frames_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    frame = b"\x2c" + struct.pack("<HHHH", 0, 0, 1, 1) + b"\0\x02\x02\x44\x01\0"
    start = b"GIF89a" + struct.pack("<HH", 4000, 4000) + b"\x80\0\0" + b"\0\0\0\xff\xff\xff"
    path = tmp_path / "a.gif"
    path.write_bytes(start + 30 * frame + b";")
    tracemalloc.start()
    try:
        for read in (read_image, open_lazy, count_steps):
            with pytest.raises(ImageError, match="480000000 values in 470 bytes"):
                read(path)
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()


def gif_bytes(*sides: int) -> bytes:
    """A GIF of square frames, all pixels of each, as large as the first."""
    frames = [pillow_bytes(np.zeros((side, side), np.uint8), "GIF") for side in sides]
    start = b"GIF89a" + struct.pack("<HH", sides[0], sides[0]) + b"\xf7\0\0"
    grey = bytes(np.repeat(np.arange(256, dtype=np.uint8), 3))
    return start + grey + b"".join(data[data.index(b",", 13) : -1] for data in frames) + b";"


def test_frames_larger_than_the_first_are_refused_before_they_are_decoded(tmp_path: Path) -> None:
    path = tmp_path / "a.gif"
    path.write_bytes(gif_bytes(8, 300, 300, 300))
    assert read_image(path, time=0).shape == (8, 8, 1)
    for time in (1, 3):  # it names the first such frame, and goes no further
        with pytest.raises(ImageError, match="frame 1 has 300 x 300 pixels and the first 8 x 8"):
            read_image(path, time=time)


def test_a_mask_of_more_pixels_than_an_image_may_have_is_refused_unread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.gif"
    path.write_bytes(gif_bytes(20, 20, 20))
    monkeypatch.setattr("cellcount_jax.io.images.image.MAX_PIXELS", 1199)
    with pytest.raises(ImageError, match=r"holds 1200 values \(limit 1199\)"):
        read_stored(path)
    monkeypatch.setattr("cellcount_jax.io.images.image.MAX_PIXELS", 1200)
    assert read_stored(path)[0].shape == (3, 20, 20)


def test_frames_are_decoded_when_they_are_read(tmp_path: Path) -> None:
    frames = [np.full((40, 50), i, np.uint8) for i in range(3)]
    path = tmp_path / "a.gif"
    first, *others = map(Image.fromarray, frames)
    first.save(path, save_all=True, append_images=others)
    assert count_steps(path)["T"] == 3
    for t, frame in enumerate(frames):
        pixels = read_image(path, index={"T": t}).pixels
        np.testing.assert_array_equal(pixels, np.repeat(frame[..., None], pixels.shape[-1], -1))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(ImageError, match=r"a\.gif: "):
        read_image(path, index={"T": 2})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", r"is empty \(0 bytes\)"),
        (b"x", "not an image of a known format"),
        (b"\x89HDF\r\n\x1a\n" + bytes(99), "it looks like HDF5"),
        (b"PK\x03\x04" + bytes(99), "it looks like zip"),
        (b"<html></html>", "it looks like text"),
        (npy_bytes(np.zeros((0, 5))), r"has no pixels \(shape \(0, 5\)\)"),
        (npy_bytes(np.zeros((5, 5, 0))), r"has no pixels"),
        (npy_bytes(np.zeros((5, 5), complex)), "values of type complex128"),
        (npy_bytes(np.array([[object()]])), "holds Python objects, no pixels"),
        (npy_bytes(np.zeros((5, 5), "M8[s]")), "values of type datetime64"),
        (tiff_bytes(np.zeros((5, 5), "c8")), "values of type complex64"),
        (pillow_bytes(GREY, "PNG")[:60], "damaged or not readable"),
    ],
)
def test_files_that_are_not_images(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "wrong.png"
    path.write_bytes(data)
    with pytest.raises(ImageError, match=message) as error:
        read_image(path)
    assert str(error.value).startswith(f"{path}: ")


@pytest.mark.parametrize(
    "array", [pixels(1, 1), pixels(1, 30), pixels(30, 1, dtype="int64"), pixels(1, 1, 3)]
)
def test_tiny_images_are_images(tmp_path: Path, array: np.ndarray) -> None:
    path = tmp_path / "tiny"
    shape = array.shape if array.ndim == 3 else (*array.shape, 1)
    path.write_bytes(tiff_bytes(array))
    assert read_image(path).pixels.shape == shape
    path.write_bytes(npy_bytes(array))
    assert read_image(path).pixels.shape == shape


def test_paths_that_are_not_files(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="there is no such file"):
        read_image(tmp_path / "none.png")
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(ImageError, match="is not a regular file"):
        read_image(tmp_path / "pipe.png")


def test_what_viewers_tolerate_is_an_error_in_stored_values(tmp_path: Path) -> None:
    path = tmp_path / "mask"
    png = bytearray(pillow_bytes(GREY, "PNG"))
    png[png.index(b"IEND") - 5] ^= 1  # the last byte of the pixels' checksum
    for data, message in (
        (bytes(png), "wrong checksum"),
        (pillow_bytes(RGB, "JPEG")[:-2], "end is missing"),
        (npy_bytes(GREY) + b"x", "does not fit its header"),
        (png_of(60000, 60000), "10800000000 values"),
    ):
        path.write_bytes(data)
        with pytest.raises(ImageError, match=message):
            read_stored(path)
