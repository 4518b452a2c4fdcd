"""Zeiss and Nikon files, where their packages are installed, and the advice where not."""

import importlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from cellcount_jax.io.images.image import ImageError, open_lazy, read_image
from tests.io.images.image_writers import mutations, pixels
from tests.io.images.nd2_writer import nd2_bytes

STACK = pixels(3, 20, 30, 2, dtype="uint16")
"""[Z, Y, X, C]."""


@pytest.mark.parametrize(
    ("start", "what"), [(b"ZISRAWFILE", "Zeiss CZI"), (b"\xda\xce\xbe\x0a", "Nikon ND2")]
)
def test_a_missing_package_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: bytes, what: str
) -> None:
    def refuse(name: str) -> ModuleType:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", refuse)
    path = tmp_path / "image"
    path.write_bytes(start + bytes(99))
    with pytest.raises(ImageError) as error:
        read_image(path)
    advice = f'{what} needs an optional package; pip install "cellcount_jax[formats]"'
    assert str(error.value) == f"{path}: {advice}"


def nd2_file(folder: Path, pixel: float | None = 0.3) -> Path:
    pytest.importorskip("nd2")
    path = folder / "stack.nd2"
    path.write_bytes(nd2_bytes(STACK, step=1.5, pixel=pixel, channels=("DAPI", "GFP")))
    return path


def test_nikon_stack(tmp_path: Path) -> None:
    path = nd2_file(tmp_path)
    image = read_image(path)
    np.testing.assert_array_equal(image.pixels, STACK)
    assert image.spacing == pytest.approx((1.5, 0.3, 0.3))
    assert image.channel_names == ("DAPI", "GFP")
    with open_lazy(path, channels="GFP") as lazy:
        part = lazy.read((slice(1, 3), slice(2, 19, 4)))
    np.testing.assert_array_equal(part, STACK[1:3, 2:19:4, :, 1:])
    assert read_image(path, index={"Z": 1}).spacing == pytest.approx((0.3, 0.3))


def test_nikon_stack_without_calibration_has_no_spacing(tmp_path: Path) -> None:
    assert read_image(nd2_file(tmp_path, pixel=None)).spacing is None


def test_two_hundred_damaged_nikon_files(tmp_path: Path) -> None:
    path = nd2_file(tmp_path)
    refused = 0
    for data in mutations(path.read_bytes(), 200):
        path.write_bytes(data)
        try:
            assert read_image(path).pixels.size
        except ImageError:
            refused += 1
    assert refused > 20


def test_zeiss_stack(tmp_path: Path) -> None:
    czi = pytest.importorskip("pylibCZIrw.czi")
    path = tmp_path / "stack.czi"
    with czi.create_czi(str(path)) as file:
        for z, plane in enumerate(STACK):
            for c in range(2):
                file.write(plane[..., c : c + 1].copy(), plane={"Z": z, "C": c, "T": 0})
        names = {0: "DAPI", 1: "GFP"}
        file.write_metadata(
            "stack", channel_names=names, scale_x=3e-7, scale_y=4e-7, scale_z=1.5e-6
        )
    image = read_image(path)
    np.testing.assert_array_equal(image.pixels, STACK)
    assert image.spacing == pytest.approx((1.5, 0.4, 0.3))
    assert image.channel_names == ("DAPI", "GFP")
    with open_lazy(path, channels="GFP") as lazy:
        part = lazy.read((slice(0, 3, 2), slice(2, 19, 4), slice(5, 30, 3)))
    np.testing.assert_array_equal(part, STACK[0:3:2, 2:19:4, 5:30:3, 1:])


def test_zeiss_scenes_time_and_colour(tmp_path: Path) -> None:
    czi = pytest.importorskip("pylibCZIrw.czi")
    planes, colour = STACK[..., :1], pixels(20, 30, 3)
    with czi.create_czi(str(tmp_path / "scenes.czi")) as file:
        for scene in range(2):
            file.write(planes[scene].copy(), scene=scene, location=(100 * scene, 0))
    with pytest.raises(ImageError, match="holds 2 images; choose one with scene=0"):
        read_image(tmp_path / "scenes.czi")
    np.testing.assert_array_equal(read_image(tmp_path / "scenes.czi", scene=1).pixels, planes[1])
    with czi.create_czi(str(tmp_path / "colour.czi")) as file:
        file.write(colour[..., ::-1].copy())
    np.testing.assert_array_equal(read_image(tmp_path / "colour.czi").pixels, colour)


@pytest.mark.parametrize(
    ("find", "distance", "value"),
    [
        (b"ZISRAWDIRECTORY", 32 + 128 + 32 + 16, 0),  # stored columns of the first tile
        (b"ZISRAWDIRECTORY", 32 + 128 + 32 + 8, -1),  # its columns
        (b"ZISRAWDIRECTORY", 32 + 128 + 6, 10**6),  # its place
        (b"ZISRAWDIRECTORY", 32, 10**9),  # number of tiles
        (b"ZISRAWSUBBLOCK", 32 + 12, 1),  # 4 GiB of pixels in the tile
        (b"ZISRAWSUBBLOCK", 32 + 16 + 32 + 8, 12),  # columns that the tile itself declares
        (b"C\0\0\0", 4, 2**21),  # number of its channel
        (b"C\0\0\0", 8, 2**21),  # number of channels that it lies in
        (b"ZISRAWFILE", 84, 10**6),  # place of the directory
    ],
)
def test_zeiss_tiles_that_contradict_their_file_never_reach_the_library(
    tmp_path: Path, find: bytes, distance: int, value: int
) -> None:
    """Of some of them the library ends the process, of others it never comes back."""
    czi = pytest.importorskip("pylibCZIrw.czi")
    path = tmp_path / "a.czi"
    with czi.create_czi(str(path)) as file:
        file.write(STACK[0, ..., :1].copy())
        file.write(STACK[1, ..., :1].copy(), plane={"C": 1})
    data = bytearray(path.read_bytes())
    start = data.index(b"ZISRAWDIRECTORY") if find == b"C\0\0\0" else 0
    at = data.index(find, start) + distance
    data[at : at + 4] = value.to_bytes(4, "little", signed=True)
    path.write_bytes(data)
    with pytest.raises(ImageError, match=r"is damaged \(its tiles\)"):
        read_image(path)
