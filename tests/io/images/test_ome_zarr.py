"""OME-Zarr of both versions and plain Zarr arrays, whole and by parts."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cellcount_jax.io.images.find import list_images
from cellcount_jax.io.images.image import ImageError, open_lazy, read_image
from tests.io.images.image_writers import pixels, write_array, write_group, write_ome_zarr

ARRAY = pixels(2, 6, 16, 18, dtype="uint16")
"""[C, Z, Y, X]."""
EXPECTED = np.moveaxis(ARRAY, 0, -1)

versions = pytest.mark.parametrize("version", ["0.4", "0.5"])


@pytest.fixture
def group(tmp_path: Path, version: str) -> Path:
    return write_ome_zarr(
        tmp_path / "brain.zarr",
        ARRAY,
        "czyx",
        version=version,
        spacing=(1.0, 2.0, 0.5, 0.4),
        channels=("DAPI", "GFP"),
    )


@versions
def test_levels_axes_spacing_and_names_are_those_of_the_metadata(group: Path) -> None:
    image = read_image(group)
    np.testing.assert_array_equal(image.pixels, EXPECTED)
    assert image.spacing == pytest.approx((2.0, 0.5, 0.4))
    assert image.channel_names == ("DAPI", "GFP")
    half = read_image(group, level=1, channels="GFP")
    np.testing.assert_array_equal(half.pixels, EXPECTED[::2, ::2, ::2, 1:])
    assert half.spacing == pytest.approx((4.0, 1.0, 0.8))
    with pytest.raises(ImageError, match="has 2 levels, no level=2"):
        read_image(group, level=2)


@versions
def test_parts_are_parts_of_the_whole(group: Path) -> None:
    with open_lazy(group) as lazy:
        assert lazy.shape == (6, 16, 18, 2)
        assert lazy.chunks == (3, 8, 9, 2)
        part = (slice(1, 6, 2), slice(3, 9), slice(None, None, 5), slice(1, 2))
        np.testing.assert_array_equal(lazy.read(part), EXPECTED[part])


@versions
def test_missing_chunks_have_the_fill_value(group: Path) -> None:
    chunk = group / "s0" / ("0/0/0/0" if (group / ".zattrs").exists() else "c/0/0/0/0")
    chunk.unlink()
    expected = EXPECTED.copy()
    expected[:3, :8, :9, 0] = 0
    np.testing.assert_array_equal(read_image(group).pixels, expected)


@versions
def test_units_other_than_micrometres(tmp_path: Path, version: str) -> None:
    one = write_ome_zarr(
        tmp_path / "nm.zarr",
        ARRAY[0, 0],
        "yx",
        version=version,
        spacing=(500.0, 400.0),
        unit="nanometer",
    )
    assert read_image(one).spacing == pytest.approx((0.5, 0.4))
    none = write_ome_zarr(
        tmp_path / "no.zarr", ARRAY[0, 0], "yx", version=version, spacing=(2, 2), unit=""
    )
    assert read_image(none).spacing is None


@pytest.mark.parametrize("version", ["0.4"])
def test_scales_of_the_group_and_of_the_level_multiply(group: Path) -> None:
    scale = {"type": "scale", "scale": [1, 1, 3, 3]}
    move = {"type": "translation", "translation": [0, 0, 9, 9]}
    damage_metadata(group, {"coordinateTransformations": [scale, move]})
    assert read_image(group).spacing == pytest.approx((2.0, 1.5, 1.2))


@versions
def test_time_and_singletons(tmp_path: Path, version: str) -> None:
    five = ARRAY.reshape(1, 2, 6, 16, 18)
    path = write_ome_zarr(tmp_path / "one.zarr", five, "tczyx", version=version)
    np.testing.assert_array_equal(read_image(path).pixels, EXPECTED)
    moving = np.moveaxis(ARRAY, 0, 1)
    path = write_ome_zarr(tmp_path / "many.zarr", moving, "tcyx", version=version)
    with pytest.raises(ImageError, match=r'6 time points.*index=\{"T": 0\}'):
        read_image(path)
    np.testing.assert_array_equal(read_image(path, index={"T": 2}).pixels, EXPECTED[2])


@pytest.mark.parametrize("zarr", [2, 3])
def test_plain_array(tmp_path: Path, zarr: int) -> None:
    path = tmp_path / "array.zarr"
    write_array(path, ARRAY, zarr=zarr, chunks=(1, 4, 8, 8))
    np.testing.assert_array_equal(read_image(path).pixels, EXPECTED)
    turned = read_image(path, axes="ZCYX").pixels
    np.testing.assert_array_equal(turned, np.moveaxis(ARRAY, 1, -1))
    if zarr == 2:
        (path / ".zattrs").write_text(json.dumps({"_ARRAY_DIMENSIONS": list("zcyx")}))
        np.testing.assert_array_equal(read_image(path).pixels, turned)


def test_the_zarr_package_writes_what_is_read(tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr")
    for version in (2, 3):
        path = tmp_path / f"v{version}.zarr"
        zarr.save_array(path, ARRAY, zarr_format=version)
        np.testing.assert_array_equal(read_image(path).pixels, EXPECTED)


def test_fields_of_a_plate_are_images(tmp_path: Path) -> None:
    plate = tmp_path / "plate.zarr"
    wells = [{"path": "A/1"}, {"path": "A/10"}]
    write_group(plate, {"plate": {"wells": wells}})
    for well in wells:
        folder = plate / well["path"]
        write_group(folder, {"well": {"images": [{"path": "0"}, {"path": "1"}]}})
        for field in "01":
            write_ome_zarr(folder / field, ARRAY[0, 0], "yx")
    expected = [plate / well / field for well in ("A/1", "A/10") for field in "01"]
    assert list_images(plate) == expected
    assert list_images(tmp_path) == expected
    assert read_image(expected[3]).pixels.shape == (16, 18, 1)
    with pytest.raises(ImageError, match=r"such as plate\.zarr/A/1/0"):
        read_image(plate)


def test_series_of_a_converted_file_are_images(tmp_path: Path) -> None:
    group = tmp_path / "converted.zarr"
    write_group(group, {"bioformats2raw.layout": 3})
    for series in ("0", "1"):
        write_ome_zarr(group / series, ARRAY[0, 0], "yx")
    assert list_images(group) == [group / "0", group / "1"]


def damage_metadata(path: Path, change: dict[str, Any]) -> None:
    facts = json.loads((path / ".zattrs").read_text())
    facts["multiscales"][0].update(change)
    (path / ".zattrs").write_text(json.dumps(facts))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"datasets": []}, "names no levels"),
        ({"datasets": [{"path": "s9"}]}, "lacks the array 's9'"),
        ({"datasets": [{"path": "../other"}]}, "is not inside it"),
        ({"datasets": [{"path": 3}]}, "is not inside it"),
        ({"datasets": ["s0"]}, "metadata of the wrong form"),
        ({"axes": [{"name": "y"}, {"name": "x"}]}, "scale that does not fit"),
        ({"axes": [{}]}, "names no axes"),
        ({"axes": [{"name": n} for n in "zyyx"]}, "must name Y once"),
    ],
)
@pytest.mark.parametrize("version", ["0.4"])
def test_invalid_metadata(group: Path, change: dict, message: str) -> None:
    damage_metadata(group, change)
    with pytest.raises(ImageError, match=message) as error:
        read_image(group)
    assert str(error.value).startswith(f"{group}: ")


@pytest.mark.parametrize("version", ["0.4"])
def test_folders_that_are_not_images(group: Path, tmp_path: Path) -> None:
    shutil.rmtree(group / "s0")
    with pytest.raises(ImageError, match="lacks the array 's0' that its metadata name"):
        read_image(group)
    (group / ".zattrs").write_text("{")
    with pytest.raises(ImageError, match=r"\.zattrs is not valid JSON"):
        read_image(group)
    (group / ".zattrs").write_text("{}")
    with pytest.raises(ImageError, match="without an image of its own"):
        read_image(group)
    (tmp_path / "empty.zarr").mkdir()
    with pytest.raises(ImageError, match="holds no Zarr metadata"):
        read_image(tmp_path / "empty.zarr")
    assert tmp_path / "empty.zarr" in list_images(tmp_path)
    with pytest.raises(ImageError, match="is a folder without an image"):
        read_image(tmp_path)


def test_a_chunk_larger_than_allowed_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "large.zarr"
    write_array(path, ARRAY[0, 0], zarr=2, chunks=(16, 18))
    facts = json.loads((path / ".zarray").read_text())
    (path / ".zarray").write_text(json.dumps(facts | {"chunks": [2**20, 2**20]}))
    with pytest.raises(ImageError, match=r"chunks of 1099511627776 values .*max_pixels"):
        open_lazy(path)
    (path / ".zarray").write_text(json.dumps(facts | {"shape": [2**20, 2**20]}))
    with pytest.raises(ImageError, match=r"declares an image of 1099511627776 values"):
        read_image(path)
    with open_lazy(path) as lazy:  # its missing chunks are cheap
        assert lazy.read((slice(2**19, 2**19 + 2), slice(0, 3))).shape == (2, 3, 1)
