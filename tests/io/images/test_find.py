"""Which files of a folder are images, and in what order."""

import os
from pathlib import Path

import pytest

from cellcount_jax.io.images.base import ImageError
from cellcount_jax.io.images.find import list_images
from tests.io.images.image_writers import pixels, write_ome_zarr


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def names(found: list[Path], folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in found]


def test_folders_are_searched_in_natural_order(tmp_path: Path) -> None:
    touch(tmp_path, "a10.png", "a2.TIF", "b/c.ome.tiff", "notes.txt", "dots.csv", "A1.jpg")
    assert names(list_images(tmp_path), tmp_path) == ["A1.jpg", "a2.TIF", "a10.png", "b/c.ome.tiff"]
    assert list_images(str(tmp_path)) == list_images([tmp_path])


def test_hidden_files_are_passed_over(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "._a.png", ".cache/b.png")
    assert names(list_images(tmp_path), tmp_path) == ["a.png"]


def test_a_zarr_folder_is_one_image(tmp_path: Path) -> None:
    array = pixels(8, 8)
    write_ome_zarr(tmp_path / "a.zarr", array, "yx")
    write_ome_zarr(tmp_path / "no_extension", array, "yx", version="0.5")
    touch(tmp_path, "a.zarr/thumbnail.png", "z.png")
    expected = ["a.zarr", "no_extension", "z.png"]
    assert names(list_images(tmp_path), tmp_path) == expected
    assert list_images(tmp_path / "a.zarr") == [tmp_path / "a.zarr"]
    assert names(list_images(tmp_path / "*"), tmp_path) == expected


def test_patterns(tmp_path: Path) -> None:
    touch(tmp_path, "p1/a_ch0.tif", "p1/a_ch1.tif", "p2/a_ch0.tif", "p2/a.csv")
    found = list_images(tmp_path, pattern="*_ch0.tif")
    assert names(found, tmp_path) == ["p1/a_ch0.tif", "p2/a_ch0.tif"]
    assert names(list_images(tmp_path, pattern="p2/*"), tmp_path) == ["p2/a_ch0.tif"]
    found = list_images(str(tmp_path / "*" / "*_ch1.tif"))
    assert names(found, tmp_path) == ["p1/a_ch1.tif"]
    assert len(list_images(tmp_path / "p*")) == 3
    assert len(list_images(tmp_path / "**" / "*.tif")) == 3


def test_files_that_are_named_are_taken_once_in_the_order_given(tmp_path: Path) -> None:
    touch(tmp_path, "b.png", "a.png", "raw.dat", "a[1].png")
    given = [tmp_path / "raw.dat", tmp_path / "b.png", tmp_path, tmp_path / "a[1].png"]
    expected = ["raw.dat", "b.png", "a.png", "a[1].png"]
    assert names(list_images(given), tmp_path) == expected


def test_nothing_found_is_an_error(tmp_path: Path) -> None:
    touch(tmp_path, "notes.txt")
    with pytest.raises(ImageError) as error:
        list_images(tmp_path)
    assert str(error.value).startswith(f"{tmp_path}: no images found (looked for .png, .jpg, ")
    with pytest.raises(ImageError, match="no images found"):
        list_images(str(tmp_path / "*.tif"))
    with pytest.raises(ImageError, match=r"pattern '\*\.tif': no images found"):
        list_images(tmp_path, pattern="*.tif")
    with pytest.raises(ImageError, match="there is no such file or folder"):
        list_images(tmp_path / "missing")


def test_a_cycle_of_links_ends(tmp_path: Path) -> None:
    touch(tmp_path, "a/b.png")
    os.symlink(tmp_path, tmp_path / "a" / "loop")
    assert names(list_images(tmp_path), tmp_path) == ["a/b.png"]


def test_linked_folders_are_searched_once_and_what_is_not_read_is_named(tmp_path, caplog):
    folder, store = tmp_path / "images", tmp_path / "store"
    for place in (folder, store):
        place.mkdir()
        (place / f"{place.name}.png").write_bytes(b"")
    (folder / "day2").symlink_to(store)
    (folder / "again").symlink_to(folder)
    (folder / "itself").symlink_to(folder / "itself")
    for name in ("a.jfif", "b.pnm", "c.ome.tf2", "d.lif"):
        (folder / name).write_bytes(b"")
    found = [p.relative_to(folder).as_posix() for p in list_images(folder)]
    assert found == ["a.jfif", "b.pnm", "c.ome.tf2", "day2/store.png", "images.png"]
    assert "images in formats that are not read (1) are left out, such as d.lif" in caplog.text


def test_what_an_earlier_count_drew_is_no_image(tmp_path):
    for name in ("a.png", "run/overlays/a.png", "run/density/a.ome.tif", "overlays/b.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "run" / "counts.csv").write_text("image\n")
    found = [p.relative_to(tmp_path).as_posix() for p in list_images(tmp_path)]
    assert found == ["a.png", "overlays/b.png"]  # a folder of that name is not always ours
