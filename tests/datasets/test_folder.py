"""A lab's folder: images, the annotations of any tool, and splits."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from cellcount_jax.datasets import folder
from cellcount_jax.io.annotations.dots import Dots, write_dots
from cellcount_jax.simulation.simulate import simulate_dataset


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
    found = {s.name: s.count for s in folder.read_folder(tmp_path)[0]}
    assert found == {"images/a.png": 2, "images/b.png": 1, "images/c.png": None}


def test_places_marked_as_no_cell(tmp_path, caplog):
    for name in ("a", "b", "c"):
        image(tmp_path / "images" / f"{name}.png")
        dots(tmp_path / "not_cells" / f"{name}.csv", [[7, 8]] if name != "b" else [])
    dots(tmp_path / "dots" / "a.csv", [[1, 2]])
    dots(tmp_path / "dots" / "b.csv", [[1, 2]])
    dots(tmp_path / "not_cells" / "d.csv", [[7, 8]])
    found = {s.name[7]: s.not_cells for s in folder.read_folder(tmp_path)[0]}
    assert found["a"].tolist() == [[7, 8]]
    assert found["b"] is None  # there are none
    assert found["c"] is None  # the image is not annotated
    assert "not_cells: no image fits d.csv" in caplog.text


def test_dots_next_to_the_images(tmp_path):
    image(tmp_path / "x.png")
    image(tmp_path / "y.png")
    dots(tmp_path / "x_RoiSet.zip", [[3, 4], [8, 9]])
    marks = np.zeros((40, 50), np.uint8)
    marks[3, 3] = marks[9, 20] = marks[30, 30] = 255
    Image.fromarray(marks).save(tmp_path / "y_dots.png")
    found = {s.name: s.count for s in folder.read_folder(tmp_path)[0]}
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


def test_a_file_that_cannot_be_read_is_left_out(tmp_path, caplog):
    for name in "abc":
        image(tmp_path / f"{name}.png")
        dots(tmp_path / "dots" / f"{name}.csv", [[1, 1]], format="napari")
    (tmp_path / "b.png").write_bytes(b"no image")
    (tmp_path / "d.png").symlink_to("d.png")
    dots(tmp_path / "dots" / "strayed.csv", [[1, 1]], format="napari")
    source = folder.load_folder(tmp_path)
    assert [s.name for s in source.splits["train"]] == ["a.png", "c.png"]
    assert list(source.left_out) == ["b.png", "d.png", "dots/strayed.csv"]
    assert all(f"left out: {line}" in caplog.messages for line in source.left_out.values())
    assert "no image has its name" in source.left_out["dots/strayed.csv"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("y,x\n1,no number\n", "no number"),
        ("axis-0,axis-1\n900,1\n", "outside"),
        ("\0\0", "b.csv"),
    ],
)
def test_dots_that_cannot_be_used_are_left_out_with_their_image(tmp_path, text, why):
    for name in "abc":
        image(tmp_path / f"{name}.png")
        dots(tmp_path / f"{name}.csv", [[1, 1]], format="napari")
    (tmp_path / "b.csv").write_text(text)
    source = folder.load_folder(tmp_path)
    assert [s.name for s in source.splits["train"]] == ["a.png", "c.png"]
    assert list(source.left_out) == ["b.png"]
    assert why in source.left_out["b.png"]


def test_a_folder_of_which_half_cannot_be_used_is_refused(tmp_path, caplog):
    for name in "abcd":
        image(tmp_path / f"{name}.png")
        dots(tmp_path / f"{name}.csv", [[1, 1]], format="napari")
    for name in "ab":
        (tmp_path / f"{name}.csv").write_text("y,x\n1,no number\n")
    with pytest.raises(folder.FolderError, match="2 of 4 images with dots cannot be used"):
        folder.read_folder(tmp_path)
    assert ["a.csv" in caplog.messages[0], "b.csv" in caplog.messages[1]] == [True, True]
    for name in "acd":
        (tmp_path / f"{name}.png").unlink()
    with pytest.raises(ValueError, match=r"b\.csv"):
        folder.read_folder(tmp_path)


def test_images_of_another_kind_than_most_are_left_out(tmp_path):
    for name, shape in {"a": (40, 50), "b": (40, 50, 3), "c": (40, 50)}.items():
        image(tmp_path / f"{name}.png", shape)
        dots(tmp_path / f"{name}.csv", [[1, 1]], format="napari")
    source = folder.load_folder(tmp_path)
    assert [s.name for s in source.splits["train"]] == ["a.png", "c.png"]
    line = "is 2-D with 3 channels, where most images with dots are 2-D with 1 channel"
    assert line in source.left_out["b.png"]
    (tmp_path / "c.png").unlink()  # which of the two is meant?
    assert len(folder.load_folder(tmp_path).splits["train"]) == 2


def cells_folder(place):
    """Ten images of cells, of which two have each other's dots and one has none in its file."""
    for i, sample in enumerate(simulate_dataset(3, 10)):
        (place / "images").mkdir(parents=True, exist_ok=True)
        Image.fromarray(sample.image[..., 0]).save(place / "images" / f"{i}.png")
        dots(place / "dots" / f"{(i, 5 - i)[i in (2, 3)]}.csv", sample.dots, format="napari")
    dots(place / "dots" / "7.csv", [], format="napari")


def test_dots_of_another_image_are_left_out_unless_the_split_lists_them(tmp_path, caplog):
    cells_folder(tmp_path)
    source = folder.load_folder(tmp_path)
    names = [f"images/{i}.png" for i in (2, 3, 7)]
    assert sorted(source.left_out) == names
    assert all("images/5.png" in line for line in source.remarks)
    assert "no more on cells" in source.left_out[names[0]]
    assert "has no dots" in source.left_out[names[2]]
    assert len(source.splits["train"]) == 7
    listed = "\n".join(f"{i}.png,train" for i in range(10))
    (tmp_path / "split.csv").write_text(f"image,split\n{listed}\n")
    (tmp_path / "images" / "9.png").write_bytes(b"no image")
    caplog.clear()
    source = folder.load_folder(tmp_path)
    assert len(source.splits["train"]) == 9
    assert list(source.left_out) == ["images/9.png"]
    assert sum(any(n in line for n in names) for line in caplog.messages) == 3


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
    with pytest.raises(folder.FolderError, match="2 of 2 images"):
        folder.read_folder(tmp_path)
    assert "--scene" in caplog.text
    assert "--time" in caplog.text
    with pytest.raises(ValueError, match="--time"):
        folder.read_folder(tmp_path, scene=0)
    scene, point = folder.read_folder(tmp_path, scene=0, time=2)[0]
    np.testing.assert_array_equal(scene.image[..., 0], series[0])
    np.testing.assert_array_equal(point.image[..., 0], series[2])
