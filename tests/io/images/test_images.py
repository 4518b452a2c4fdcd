"""Images of many formats are read as they were written."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image as PILImage
from PIL import ImageOps

from cellcount_jax.io.images.image import Image, ImageError, open_lazy, read_image, read_stored
from tests.io.images.image_writers import npy_bytes, pillow_bytes, pixels, save, tiff_bytes

GREY, DEEP, RGB = pixels(70, 50), pixels(70, 50, dtype="uint16"), pixels(70, 50, 3)
STACK = pixels(5, 40, 30, dtype="uint16")
TWO = pixels(5, 2, 40, 30, dtype="uint16")
"""A stack of two channels, [Z, C, Y, X]."""


@pytest.mark.parametrize(
    ("array", "kind"),
    [
        (GREY, "PNG"),
        (GREY > 99, "PNG"),
        (DEEP, "PNG"),
        (RGB, "PNG"),
        (RGB, "BMP"),
        (GREY, "GIF"),
        (RGB, "PPM"),
    ],
)
def test_lossless_formats_are_detected_from_the_content(
    tmp_path: Path, array: np.ndarray, kind: str
) -> None:
    image = read_image(save(tmp_path, pillow_bytes(array, kind), "wrong_extension.jpg"))
    expected = array if array.ndim == 3 else array[..., None]
    np.testing.assert_array_equal(image.pixels, expected)
    assert image.pixels.dtype == array.dtype
    assert (image.ndim, image.space_shape) == (2, (70, 50))


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "JPEG2000"])
def test_lossy_formats_are_those_of_pillow(tmp_path: Path, kind: str) -> None:
    path = save(tmp_path, pillow_bytes(RGB, kind))
    np.testing.assert_array_equal(read_image(path).pixels, np.array(PILImage.open(path)))


def test_transparency_is_dropped_and_colours_become_rgb(tmp_path: Path) -> None:
    rgba = pixels(9, 8, 4)
    read = read_image(save(tmp_path, pillow_bytes(rgba, "PNG"))).pixels
    np.testing.assert_array_equal(read, rgba[..., :3])
    grey_alpha = PILImage.fromarray(rgba[..., :2], "LA")
    grey_alpha.save(tmp_path / "la.png")
    np.testing.assert_array_equal(read_image(tmp_path / "la.png").pixels, rgba[..., :1])
    PILImage.fromarray(rgba, "CMYK").save(tmp_path / "cmyk.jpg", quality=100)
    expected = np.array(PILImage.open(tmp_path / "cmyk.jpg").convert("RGB"))
    np.testing.assert_array_equal(read_image(tmp_path / "cmyk.jpg").pixels, expected)


def test_palette_is_applied_unless_stored_values_are_asked_for(tmp_path: Path) -> None:
    palette = pixels(256, 3)
    image = PILImage.fromarray(GREY)
    image.putpalette(palette.tobytes())
    image.save(tmp_path / "palette.png")
    np.testing.assert_array_equal(read_image(tmp_path / "palette.png").pixels, palette[GREY])
    stored = read_image(tmp_path / "palette.png", stored=True).pixels
    np.testing.assert_array_equal(stored[..., 0], GREY)
    table = (palette.T.astype("uint16")) * 257
    path = save(tmp_path, tiff_bytes(GREY, photometric="palette", colormap=table))
    np.testing.assert_array_equal(read_image(path).pixels, palette[GREY])
    assert read_image(path).channel_names == ("red", "green", "blue")
    np.testing.assert_array_equal(read_image(path, stored=True).pixels[..., 0], GREY)


def test_sixteen_bit_colour_png_keeps_its_bits(tmp_path: Path) -> None:
    rgba = pixels(9, 8, 4, dtype="uint16")
    path = save(tmp_path, imagecodecs.png_encode(rgba))
    np.testing.assert_array_equal(read_image(path).pixels, rgba[..., :3])


def test_time_must_be_chosen(tmp_path: Path) -> None:
    path = save(tmp_path, tiff_bytes(STACK, imagej=True, metadata={"axes": "TYX"}))
    with pytest.raises(ImageError, match=r'holds 5 time points.*index=\{"T": 0\}'):
        read_image(path)
    np.testing.assert_array_equal(read_image(path, index={"T": 4}).pixels[..., 0], STACK[4])
    with pytest.raises(ImageError, match="T=5 is outside its axis of length 5"):
        read_image(path, index={"T": 5})
    np.testing.assert_array_equal(read_image(path, axes="ZYX").pixels[..., 0], STACK)
    with pytest.raises(ImageError, match="has no axis 'P'"):
        read_image(path, index={"P": 0, "T": 0})


def test_axes_that_are_given_replace_those_of_the_file(tmp_path: Path) -> None:
    path = save(tmp_path, tiff_bytes(TWO, compression="zlib", photometric="minisblack"))
    with pytest.raises(ImageError, match=r"does not say what its axes .* pass axes"):
        read_image(path)
    read = read_image(path, axes="zcyx").pixels
    np.testing.assert_array_equal(read, np.moveaxis(TWO, 1, -1))
    reordered = read_image(path, axes="CZXY").pixels
    np.testing.assert_array_equal(reordered, TWO.transpose(1, 3, 2, 0))
    with pytest.raises(ImageError, match=r"axes='ZYX' names 3 axes, the file has 4"):
        read_image(path, axes="ZYX")
    with pytest.raises(ImageError, match="must name Y once"):
        read_image(path, axes="ZCQX")
    with pytest.raises(ImageError, match="must be different letters"):
        read_image(path, axes="ZZYX")


def test_one_plane_is_flat_unless_axes_have_z(tmp_path: Path) -> None:
    data = tiff_bytes(STACK[:1], ome=True, metadata={"axes": "ZYX"})
    assert read_image(save(tmp_path, data)).pixels.shape == (40, 30, 1)
    assert read_image(save(tmp_path, data), axes="TCZYXS").pixels.shape == (1, 40, 30, 1)


def test_channels_that_are_not_there(tmp_path: Path) -> None:
    path = save(tmp_path, pillow_bytes(RGB, "PNG"))
    with pytest.raises(ImageError, match="has 3 channels, no channel 3"):
        read_image(path, channels=3)
    with pytest.raises(ImageError, match="no single channel named 'DAPI'; its names: red, green"):
        read_image(path, channels=["DAPI"])
    with pytest.raises(ImageError, match="channels is empty"):
        read_image(path, channels=[])
    grey = save(tmp_path, pillow_bytes(GREY, "PNG"))
    with pytest.raises(ImageError, match="none; give a number from 0 to 0"):
        read_image(grey, channels="DAPI")


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((9, 8), (9, 8, 1)),
        ((9, 8, 3), (9, 8, 3)),
        ((2, 9, 8), (9, 8, 2)),
        ((7, 9, 8), (7, 9, 8, 1)),
        ((7, 9, 8, 2), (7, 9, 8, 2)),
        ((2, 7, 9, 8), (7, 9, 8, 2)),
        ((1, 2, 7, 9, 8), (7, 9, 8, 2)),
    ],
)
def test_numpy_files_and_their_guessed_axes(tmp_path: Path, shape: tuple, expected: tuple) -> None:
    path = save(tmp_path, npy_bytes(pixels(*shape)))
    assert read_image(path).pixels.shape == expected


def test_numpy_file_whose_axes_cannot_be_guessed(tmp_path: Path) -> None:
    path = save(tmp_path, npy_bytes(pixels(5, 6, 7, 8)))
    with pytest.raises(ImageError, match=r"shape \(5, 6, 7, 8\) does not say .* pass axes"):
        read_image(path)
    assert read_image(path, axes="ZYXC").pixels.shape == (5, 6, 7, 8)


@pytest.mark.parametrize(
    "data",
    [
        tiff_bytes(TWO, imagej=True, metadata={"axes": "ZCYX"}),
        tiff_bytes(TWO, ome=True, metadata={"axes": "ZCYX"}, tile=(16, 32), compression="zlib"),
        tiff_bytes(TWO, ome=True, metadata={"axes": "ZCYX"}, rowsperstrip=7, compression="lzw"),
        npy_bytes(np.moveaxis(TWO, 1, -1)),
        tiff_bytes(
            np.moveaxis(TWO, 1, -1), photometric="minisblack", planarconfig="contig", tile=(16, 16)
        ),
    ],
)
@pytest.mark.parametrize(
    "slices",
    [
        (),
        (slice(1, 3), slice(5, 38), slice(15, 30)),
        (slice(None, None, 2), slice(3, None, 5), slice(None, None, 7), slice(1, 2)),
        (slice(4, 5), slice(39, 40), slice(29, 30)),
    ],
)
def test_parts_are_parts_of_the_whole(tmp_path: Path, data: bytes, slices: tuple) -> None:
    path = save(tmp_path, data)
    axes = "ZYXC" if b"shape" in data[:400] else None
    whole = read_image(path, axes=axes).pixels
    np.testing.assert_array_equal(whole, np.moveaxis(TWO, 1, -1))
    with open_lazy(path, axes=axes) as lazy:
        assert (lazy.shape, lazy.dtype) == (whole.shape, whole.dtype)
        assert (lazy.ndim, lazy.space_shape) == (3, (5, 40, 30))
        assert len(lazy.chunks) == len(lazy.shape)
        np.testing.assert_array_equal(lazy.read(slices), whole[slices])
    with open_lazy(path, axes=axes, channels=1) as lazy:
        np.testing.assert_array_equal(lazy.read(slices[:3]), whole[..., 1:][slices[:3]])


def test_threads_may_share_an_image(tmp_path: Path) -> None:
    array = pixels(6, 128, 128, dtype="uint16")
    path = save(tmp_path, tiff_bytes(array, tile=(16, 16), compression="zlib", metadata=None))
    parts = [(slice(z, z + 1), slice(y, y + 40)) for z in range(6) for y in range(0, 128, 8)]
    with open_lazy(path) as lazy, ThreadPoolExecutor(4) as threads:
        for part, read in zip(parts, threads.map(lazy.read, parts), strict=True):
            np.testing.assert_array_equal(read[..., 0], array[part])


def test_parts_must_not_be_empty(tmp_path: Path) -> None:
    with open_lazy(save(tmp_path, pillow_bytes(RGB, "PNG"))) as lazy:
        np.testing.assert_array_equal(lazy.read(slice(3, 5)), RGB[3:5])
        for wrong in [(slice(5, 5),), (slice(None, None, -1),), (slice(None),) * 4]:
            with pytest.raises(ValueError, match="slices"):
                lazy.read(wrong)


def test_an_image_outlives_its_file(tmp_path: Path) -> None:
    path = save(tmp_path, npy_bytes(GREY))
    image = read_image(path)
    path.write_bytes(bytes(10))
    np.testing.assert_array_equal(image.pixels[..., 0], GREY)


def test_image_of_an_array() -> None:
    assert Image(np.zeros((3, 4, 5, 1))).space_shape == (3, 4, 5)


def test_published_files_are_read(raw_dir: Path) -> None:
    vgg = read_image(raw_dir / "vgg_cells" / "001cell.png")
    assert (vgg.pixels.shape, vgg.pixels.dtype) == ((256, 256, 3), np.uint8)
    dots = read_image(next((raw_dir / "mbm").glob("*_dots_*.png"))).pixels
    assert dots.shape[:2] == (600, 600)
    jpeg = next((raw_dir / "adi" / "images").glob("*.jpeg"))
    np.testing.assert_array_equal(read_image(jpeg).pixels, np.array(PILImage.open(jpeg)))
    for path in [*(raw_dir / "bbbc050" / "images").glob("*.tif")][:5]:
        image = read_image(path)
        assert image.ndim == 3
        np.testing.assert_array_equal(image.pixels[..., 0], tifffile.imread(path))


def test_a_channel_that_is_tagged_as_transparency_can_be_named(tmp_path, caplog):
    four = np.random.default_rng(0).integers(0, 999, (8, 9, 4)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", four, photometric="rgb", extrasamples=["unassalpha"])
    assert read_image(tmp_path / "a.tif").pixels.shape == (8, 9, 3)
    assert "sample 4 is tagged as transparency and left out" in caplog.text
    assert "count it with --channels 3 (the first is 0)" in caplog.text
    caplog.clear()
    found = read_image(tmp_path / "a.tif", channels=[3]).pixels
    np.testing.assert_array_equal(found[..., 0], four[..., 3])
    PILImage.fromarray(four.astype(np.uint8), "RGBA").save(tmp_path / "b.png")
    found = read_image(tmp_path / "b.png", channels=["alpha", 0]).pixels
    np.testing.assert_array_equal(found, four.astype(np.uint8)[..., [3, 0]])
    assert not caplog.text


@pytest.mark.parametrize(
    ("names", "given", "index"), [(("405", "488"), "488", 1), (("1", "2"), "1", 0)]
)
def test_a_channel_is_its_name_before_its_number(tmp_path, names, given, index, caplog):
    planes = np.random.default_rng(0).integers(0, 999, (2, 8, 9)).astype(np.uint16)
    metadata = {"axes": "CYX", "Channel": {"Name": list(names)}}
    tifffile.imwrite(tmp_path / "a.ome.tif", planes, ome=True, metadata=metadata)
    found = read_image(tmp_path / "a.ome.tif", channels=[given]).pixels[..., 0]
    np.testing.assert_array_equal(found, planes[index])
    said = ["channel 1 is taken by its name: it is number 0, counted from 0"]
    assert caplog.messages == (said if given == "1" else [])
    by_number = read_image(tmp_path / "a.ome.tif", channels=["0"]).pixels[..., 0]
    np.testing.assert_array_equal(by_number, planes[0])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "tif", "tiled.tif", "frames.png"])
def test_images_and_masks_are_rotated_as_their_orientation_says(
    tmp_path, caplog, suffix, orientation
):
    rng = np.random.default_rng(0)
    stored = rng.integers(0, 255, (40, 52), np.uint8)
    exif = PILImage.Exif()
    exif[274] = orientation
    path = tmp_path / f"a.{suffix}"
    image, index = PILImage.fromarray(stored), None
    if suffix == "tiled.tif":
        tag = (274, "H", 1, orientation, True)
        sizes = {"resolution": (1e4, 2e4), "resolutionunit": "CENTIMETER"}
        tifffile.imwrite(path, stored, tile=(16, 16), compression="zlib", extratags=[tag], **sizes)
    elif suffix == "frames.png":
        others = [PILImage.fromarray(255 - stored)]
        image.save(path, exif=exif, save_all=True, append_images=others)
        index = {"T": 0}
    else:
        image.save(path, exif=exif)
    image.getexif()[274] = orientation
    expected = np.asarray(ImageOps.exif_transpose(image))
    with open_lazy(path, index=index) as opened:
        np.testing.assert_array_equal(opened.read()[..., 0], expected)
        part = opened.read((slice(3, 31, 3), slice(5, 37, 2)))[..., 0]
        np.testing.assert_array_equal(part, expected[3:31:3, 5:37:2])
        if suffix == "tiled.tif":
            assert opened.spacing == ((0.5, 1.0) if orientation < 5 else (1.0, 0.5))
    if index is None:
        np.testing.assert_array_equal(read_stored(path)[0], expected)
    assert ("rotated upright" in caplog.text) == (orientation != 1)
