"""TIFF and its relatives are read as they were written."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image as PILImage

from cellcount_jax.io.images.image import ImageError, open_lazy, read_image
from tests.io.images.image_writers import pixels, save, tiff_bytes

GREY, DEEP, RGB = pixels(70, 50), pixels(70, 50, dtype="uint16"), pixels(70, 50, 3)
STACK = pixels(5, 40, 30, dtype="uint16")
TWO = pixels(5, 2, 40, 30, dtype="uint16")
"""A stack of two channels, [Z, C, Y, X]."""


@pytest.mark.parametrize("dtype", ["u1", "u2", "i2", "u4", "f2", "f4", "f8", "i8"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"byteorder": ">"},
        {"compression": "lzw", "rowsperstrip": 13},
        {"compression": "zlib", "tile": (16, 32)},
        {"compression": "zstd", "tile": (32, 16)},
    ],
)
def test_tiff_of_all_types_and_layouts(tmp_path: Path, dtype: str, options: dict) -> None:
    array = pixels(70, 50, dtype=dtype)
    image = read_image(save(tmp_path, tiff_bytes(array, **options)))
    np.testing.assert_array_equal(image.pixels[..., 0], array)
    assert image.pixels.dtype == np.dtype(dtype)
    assert image.pixels.flags.writeable


@pytest.mark.parametrize("options", [{}, {"compression": "packbits", "rowsperstrip": 7}])
def test_tiff_of_one_bit(tmp_path: Path, options: dict) -> None:
    path = save(tmp_path, tiff_bytes(GREY > 99, **options))
    np.testing.assert_array_equal(read_image(path).pixels[..., 0], GREY > 99)


@pytest.mark.parametrize("tile", [None, (16, 16)])
@pytest.mark.parametrize("planar", [False, True])
def test_tiff_colours(tmp_path: Path, tile: tuple | None, planar: bool) -> None:
    rgba = pixels(40, 30, 4)
    array = np.moveaxis(rgba, -1, 0) if planar else rgba
    options = {"planarconfig": "separate" if planar else "contig", "tile": tile}
    data = tiff_bytes(array, photometric="rgb", compression="zlib", **options)
    np.testing.assert_array_equal(read_image(save(tmp_path, data)).pixels, rgba[..., :3])
    green = read_image(save(tmp_path, data), channels="green").pixels
    np.testing.assert_array_equal(green[..., 0], rgba[..., 1])
    reordered = read_image(save(tmp_path, data), channels=["blue", 1]).pixels
    np.testing.assert_array_equal(reordered, rgba[..., 2:0:-1])


def test_tiff_of_other_colour_models(tmp_path: Path) -> None:
    path = save(tmp_path, tiff_bytes(GREY, photometric="miniswhite"))
    np.testing.assert_array_equal(read_image(path).pixels[..., 0], 255 - GREY)
    cmyk = pixels(40, 30, 4)
    path = save(tmp_path, tiff_bytes(cmyk, photometric="separated"))
    expected = np.array(PILImage.fromarray(cmyk, "CMYK").convert("RGB"), int)
    assert np.abs(read_image(path).pixels - expected).max() <= 1
    smooth = np.add.outer(np.arange(64), np.arange(64)).astype("uint8")[..., None].repeat(3, -1)
    data = tiff_bytes(smooth, photometric="rgb", compression="jpeg", tile=(32, 32))
    difference = read_image(save(tmp_path, data)).pixels.astype(int) - smooth
    assert np.abs(difference).max() < 8
    with pytest.raises(ImageError, match="CIELab; save it as grey or RGB"):
        read_image(save(tmp_path, tiff_bytes(RGB, photometric="cielab")))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"compression": "zlib"},
        {"compression": "zlib", "tile": (16, 16)},
        {"compression": "zlib", "tile": (16, 16, 16), "volumetric": True},
        {"metadata": None},
        {"metadata": None, "compression": "lzw"},
        {"imagej": True, "metadata": {"axes": "ZYX"}},
        {"ome": True, "metadata": {"axes": "ZYX"}, "tile": (16, 16)},
    ],
)
def test_grey_pages_are_a_stack(tmp_path: Path, options: dict) -> None:
    path = save(tmp_path, tiff_bytes(STACK, photometric="minisblack", **options))
    np.testing.assert_array_equal(read_image(path).pixels[..., 0], STACK)
    plane = read_image(path, index={"Z": 3})
    np.testing.assert_array_equal(plane.pixels[..., 0], STACK[3])


def test_imagej_stack_has_its_voxel_size(tmp_path: Path) -> None:
    facts = {"axes": "ZCYX", "spacing": 1.5, "unit": "um"}
    data = tiff_bytes(TWO, imagej=True, resolution=(1 / 0.2, 1 / 0.25), metadata=facts)
    image = read_image(save(tmp_path, data))
    np.testing.assert_array_equal(image.pixels, np.moveaxis(TWO, 1, -1))
    assert image.spacing == pytest.approx((1.5, 0.25, 0.2))
    flat = read_image(save(tmp_path, data), index={"Z": 0}, channels=1)
    assert flat.spacing == pytest.approx((0.25, 0.2))
    np.testing.assert_array_equal(flat.pixels[..., 0], TWO[0, 1])


@pytest.mark.parametrize("unit", ["micron", "\\u00B5m", "pixel", None])
def test_imagej_units(tmp_path: Path, unit: str | None) -> None:
    facts = {"axes": "YX"} | ({"unit": unit} if unit else {})
    data = tiff_bytes(GREY, imagej=True, resolution=(4, 4), metadata=facts)
    expected = None if unit in ("pixel", None) else pytest.approx((0.25, 0.25))
    assert read_image(save(tmp_path, data)).spacing == expected


def test_ome_tiff_has_axes_voxel_size_and_channel_names(tmp_path: Path) -> None:
    facts = {
        "axes": "CZYX",
        "PhysicalSizeX": 0.1,
        "PhysicalSizeXUnit": "µm",
        "PhysicalSizeY": 110,
        "PhysicalSizeYUnit": "nm",
        "PhysicalSizeZ": 0.002,
        "PhysicalSizeZUnit": "mm",
        "Channel": {"Name": ["DAPI", "GFP"]},
    }
    data = tiff_bytes(np.moveaxis(TWO, 1, 0), ome=True, metadata=facts, compression="zlib")
    image = read_image(save(tmp_path, data))
    np.testing.assert_array_equal(image.pixels, np.moveaxis(TWO, 1, -1))
    assert image.spacing == pytest.approx((2.0, 0.11, 0.1))
    assert image.channel_names == ("DAPI", "GFP")
    swapped = read_image(save(tmp_path, data), channels=["gfp", 0])
    np.testing.assert_array_equal(swapped.pixels, np.moveaxis(TWO, 1, -1)[..., ::-1])
    assert swapped.channel_names == ("GFP", "DAPI")


def test_resolution_tags_count_only_where_they_mean_a_specimen(tmp_path: Path) -> None:
    fine = tiff_bytes(GREY, resolution=(20000, 10000), resolutionunit="CENTIMETER")
    assert read_image(save(tmp_path, fine)).spacing == pytest.approx((1.0, 0.5))
    paper = tiff_bytes(GREY, resolution=(300, 300), resolutionunit="INCH")
    assert read_image(save(tmp_path, paper)).spacing is None
    slide = tiff_bytes(GREY, description="Aperio Image|MPP = 0.25|x", metadata=None)
    assert read_image(save(tmp_path, slide)).spacing == pytest.approx((0.25, 0.25))


def test_several_images_in_one_file(tmp_path: Path) -> None:
    path = tmp_path / "several.tif"
    with tifffile.TiffWriter(path) as file:
        file.write(STACK[0], metadata=None)
        file.write(DEEP, metadata=None)
    with pytest.raises(ImageError, match="holds 2 images; choose one with scene=0 to scene=1"):
        read_image(path)
    np.testing.assert_array_equal(read_image(path, scene=1).pixels[..., 0], DEEP)
    with pytest.raises(ImageError, match="no scene=2"):
        read_image(path, scene=2)
    with tifffile.TiffWriter(path) as file:  # a slide and its thumbnail
        file.write(DEEP, metadata=None)
        file.write(DEEP[::9, ::9], metadata=None)
    np.testing.assert_array_equal(read_image(path).pixels[..., 0], DEEP)


def test_levels_of_a_pyramid(tmp_path: Path) -> None:
    path = tmp_path / "pyramid.ome.tif"
    facts = {"axes": "YX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
    with tifffile.TiffWriter(path, ome=True) as file:
        file.write(DEEP, subifds=1, tile=(16, 16), metadata=facts)
        file.write(DEEP[::2, ::2], subfiletype=1, tile=(16, 16))
    half = read_image(path, level=1)
    np.testing.assert_array_equal(half.pixels[..., 0], DEEP[::2, ::2])
    assert half.spacing == pytest.approx((1.0, 1.0))
    with pytest.raises(ImageError, match="has 2 levels, no level=2"):
        read_image(path, level=2)


def test_only_the_tiles_of_a_part_are_read(tmp_path: Path) -> None:
    array = pixels(64, 64)
    path = save(tmp_path, tiff_bytes(array, tile=(16, 16), compression="zlib"))
    with tifffile.TiffFile(path) as file:
        place = file.pages[0].dataoffsets[-1]
    data = bytearray(path.read_bytes())
    data[place : place + 20] = bytes(20)
    path.write_bytes(data)
    with open_lazy(path) as lazy:
        assert lazy.chunks == (16, 16, 1)
        part = lazy.read((slice(0, 48), slice(0, 64)))
        np.testing.assert_array_equal(part[..., 0], array[:48])
        with pytest.raises(ImageError, match=r"image\.dat: damaged"):
            lazy.read((slice(48, 64), slice(48, 64)))


@pytest.mark.parametrize("dpi", [72, 96, 300])
def test_resolutions_for_printing_are_not_pixel_sizes(tmp_path, caplog, dpi):
    plane = np.zeros((8, 9), np.uint8)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, plane, imagej=True, resolution=(dpi, dpi), metadata={"unit": "inch"})
    assert read_image(path).spacing is None
    assert "its resolution is for printing" in caplog.text
    tifffile.imwrite(path, plane, imagej=True, resolution=(2, 2), metadata={"unit": "micron"})
    assert read_image(path).spacing == (0.5, 0.5)
