"""A lab's folder: images, the annotations of any tool, and splits."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from cellcount_jax.datasets import folder
from cellcount_jax.io.annotations.dots import Dots, write_dots


def image(path, shape=(40, 50)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros(shape, np.uint8)).save(path)


def dots(path, points, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    write_dots(path, Dots(np.array(points, np.float32).reshape(-1, 2), None, None), **options)


def test_dots_in_a_separate_folder_and_an_unlabelled_image(tmp_path):
    for name in ("a", "b", "c"):
        image(tmp_path / "images" / f"{name}.png")
    dots(tmp_path / "dots" / "a.csv", [[1, 2], [30, 40]], format="napari")
    dots(tmp_path / "dots" / "CellCounter_b.xml", [[5, 6]])
    found = {s.name: s.count for s in folder.read_folder(tmp_path)}
    assert found == {"images/a.png": 2, "images/b.png": 1, "images/c.png": None}


def test_dots_next_to_the_images(tmp_path):
    image(tmp_path / "x.png")
    image(tmp_path / "y.png")
    dots(tmp_path / "x_RoiSet.zip", [[3, 4], [8, 9]])
    marks = np.zeros((40, 50), np.uint8)
    marks[3, 3] = marks[9, 20] = marks[30, 30] = 255
    Image.fromarray(marks).save(tmp_path / "y_dots.png")
    found = {s.name: s.count for s in folder.read_folder(tmp_path)}
    assert found == {"x.png": 2, "y.png": 3}


def test_split_file_and_random_split(tmp_path):
    for i in range(4):
        image(tmp_path / "images" / f"{i}.png")
        dots(tmp_path / "dots" / f"{i}.csv", [[i, i]], format="napari")
    (tmp_path / "split.csv").write_text("image,split\n0.png,train\nimages/1.png,Train\n2,test\n")
    dataset = folder.load_folder(tmp_path)
    names = {split: [s.name for s in rows] for split, rows in dataset.splits.items()}
    assert names == {"train": ["images/0.png", "images/1.png"], "test": ["images/2.png"]}
    for n, sizes in ((5, (5, 0, 0)), (19, (19, 0, 0)), (20, (14, 2, 4)), (40, (28, 4, 8))):
        splits = folder.random_split(n, seed=3)
        assert tuple(len(splits[s]) for s in ("train", "validation", "test")) == sizes
        assert sorted(i for rows in splits.values() for i in rows) == list(range(n))


@pytest.mark.parametrize(
    ("row", "line"),
    [
        ("0.png,trian", r"split.csv, line 2: split 'trian' is not one of train"),
        ("9.png,test", r"split.csv, line 2: no image '9.png'"),
        ("0.png", "split.csv, line 2: 1 cells where the first line has 2"),
    ],
)
def test_errors_in_split_files_name_the_line(tmp_path, row, line):
    image(tmp_path / "images" / "0.png")
    dots(tmp_path / "dots" / "0.csv", [[1, 1]], format="napari")
    (tmp_path / "split.csv").write_text(f"image,split\n{row}\n")
    with pytest.raises(ValueError, match=line):
        folder.load_folder(tmp_path)


def test_unusable_folders_are_errors(tmp_path):
    with pytest.raises(folder.FolderError, match="no such folder"):
        folder.read_folder(tmp_path / "absent")
    with pytest.raises(ValueError, match="no images found"):
        folder.read_folder(tmp_path)
    image(tmp_path / "a.png")
    with pytest.raises(folder.FolderError, match="cellcount propose"):
        folder.read_folder(tmp_path)
    dots(tmp_path / "a.csv", [[1, 1]], format="napari")
    dots(tmp_path / "a_points.xml", [[1, 1]], format="cell_counter")
    with pytest.raises(folder.FolderError, match="more than one annotation"):
        folder.read_folder(tmp_path)


def test_an_image_that_cannot_be_read_is_left_out_only_if_it_has_no_dots(tmp_path, caplog):
    image(tmp_path / "a.png")
    dots(tmp_path / "a.csv", [[1, 1]], format="napari")
    (tmp_path / "b.png").symlink_to("b.png")
    assert [s.name for s in folder.read_folder(tmp_path)] == ["a.png"]
    assert "b.png: " in caplog.text
    dots(tmp_path / "b.csv", [[1, 1]], format="napari")
    with pytest.raises(ValueError, match=r"b\.png: "):
        folder.read_folder(tmp_path)
    (tmp_path / "a.csv").write_text("y,x\n1,no number\n")
    caplog.clear()
    with pytest.raises(folder.FolderError, match="2 images with dots cannot be used"):
        folder.read_folder(tmp_path)
    assert ["a.csv" in caplog.messages[0], "b.png" in caplog.messages[1]] == [True, True]


def test_names_of_images_can_be_written_to_any_table(tmp_path):
    name = b"lat\xe4in\r".decode("utf-8", "surrogateescape")
    try:
        image(tmp_path / f"{name}.tif")
    except OSError:
        pytest.skip("this file system takes no such names")
    dots(tmp_path / f"{name}.csv", [[1, 1]], format="napari")
    source = folder.load_folder(tmp_path)
    assert [s.name for s in source.splits["train"]] == ["lat\\xe4in\\r.tif"]
    assert source.split_hash


def test_one_scene_and_time_point_of_files_are_read(tmp_path, caplog):
    series = np.random.default_rng(0).integers(0, 255, (3, 20, 30), np.uint8)
    tifffile.imwrite(tmp_path / "t.tif", series, imagej=True, metadata={"axes": "TYX"})
    with tifffile.TiffWriter(tmp_path / "s.ome.tif", ome=True) as file:
        for plane in series:
            file.write(plane, metadata={"axes": "YX"})
    for name in "ts":
        dots(tmp_path / f"{name}.csv", [[1, 1]], format="napari")
    with pytest.raises(folder.FolderError, match="2 images"):
        folder.read_folder(tmp_path)
    assert "--scene" in caplog.text
    assert "--time" in caplog.text
    with pytest.raises(ValueError, match="--time"):
        folder.read_folder(tmp_path, scene=0)
    scene, point = folder.read_folder(tmp_path, scene=0, time=2)
    np.testing.assert_array_equal(scene.image[..., 0], series[0])
    np.testing.assert_array_equal(point.image[..., 0], series[2])
