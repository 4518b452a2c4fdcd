"""Dots of tables: columns by name, encodings, units, and errors that name the line."""

import numpy as np
import pytest

from cellcount_jax.io.annotations.dots import Dots, detect_format, read_dots, write_dots
from tests.io.annotations.dots_files import fails as _fails
from tests.io.annotations.dots_files import file_of as _file
from tests.io.annotations.dots_files import same as _same

# Files as napari 0.9.2 saves a points layer: without features, with, and empty.


def test_napari(tmp_path):
    plain = "index,axis-0,axis-1\r\n0.0,12.3456789,40.0\r\n1.0,3.0,7.25\r\n"
    path = _file(tmp_path, plain)
    assert detect_format(path) == "napari"
    _same(read_dots(path), [[12.3456789, 40], [3, 7.25]])
    features = (
        "index,axis-0,axis-1,axis-2,label,confidence\r\n"
        '0,1.0,12.3456789,40.0,a,0.5\r\n1,2.0,3.0,7.25,"b, c",0.25\r\n'
    )
    _same(
        read_dots(_file(tmp_path, features)),
        [[1, 12.3456789, 40], [2, 3, 7.25]],
        None,
        ["a", "b, c"],
    )
    assert read_dots(_file(tmp_path, "index,axis-0,axis-1\r\n")).points.shape == (0, 2)


def test_napari_with_time_is_refused(tmp_path):
    path = _file(tmp_path, "index,axis-0,axis-1,axis-2,axis-3\n0,1,2,3,4\n")
    assert "time point" in _fails(path)


def test_spotiflow(tmp_path):
    path = _file(tmp_path, "z,y,x,intensity,probability\n1.0,2.5,3.25,812.0,0.75\n")
    assert detect_format(path) == "spotiflow"
    _same(read_dots(path), [[1, 2.5, 3.25]], [0.75])


@pytest.mark.parametrize(
    ("text", "points"),
    [
        ("x,y\n1,2\n", [[2, 1]]),
        ("y,x,score\n1,2,0.5\n", [[1, 2]]),
        ("x,y,z\n1,2,3\n", [[3, 2, 1]]),
        (" ,Area,Mean,X,Y\n1,40,12.5,88.25,612.75\n", [[612.75, 88.25]]),
        (" \tArea\tX\tY\r\n1\t40\t88.25\t612.75\r\n", [[612.75, 88.25]]),
        ("\ufeffX;Y\r\n1,5;2,25\r\n", [[2.25, 1.5]]),
        ("sep=;\r\nX;Y\r\n1,5;2,25\r\n", [[2.25, 1.5]]),
        (",x,y,z,type\n0,10,20,1,2\n", [[1, 20, 10]]),
        ("label,centroid-0,centroid-1\n1,10.5,20.5\n", [[10.5, 20.5]]),
        ("# y x\n1.5 2.5\n", [[1.5, 2.5]]),
        ('"x","y"\n"1.5","2.5"\n', [[2.5, 1.5]]),
        ("y,x\n\n1,2\n\n", [[1, 2]]),
        ("ImageNumber,Location_Center_X,Location_Center_Y\n1,3.5,4.5\n", [[4.5, 3.5]]),
        ("X,Y,Slice\n1,2,1\n3,4,1\n", [[2, 1], [4, 3]]),
        ("X,Y,Slice\n1,2,1\n3,4,7\n", [[0, 2, 1], [6, 4, 3]]),
    ],
)
def test_tables_are_read_by_name(tmp_path, text, points):
    _same(read_dots(_file(tmp_path, text)), points)


@pytest.mark.parametrize(
    "text",
    [
        "y,x,\r\n1,2,\r\n,,\r\n3,4,\r\n,,\r\n",
        "y;x\r\n1;2\r\n3;4\r\n;\r\n",
        "y\tx\n1\t2\n\t\n3\t4\n \t \n",
    ],
)
def test_rows_of_delimiters_alone_as_excel_leaves_them_are_no_dots(tmp_path, text):
    _same(read_dots(_file(tmp_path, text)), [[1, 2], [3, 4]])


@pytest.mark.parametrize("encoding", ["utf-16", "cp1252", "utf-8-sig"])
def test_encodings(tmp_path, encoding):
    path = _file(tmp_path, "Größe µm²\tX\tY\r\n40\t1.5\t2.5\r\n".encode(encoding))
    _same(read_dots(path), [[2.5, 1.5]])


def test_a_table_without_header_needs_the_order(tmp_path):
    path = _file(tmp_path, "88.5,612\n10,20\n")
    assert 'order="xy"' in _fails(path)
    _same(read_dots(path, order="xy"), [[612, 88.5], [20, 10]])
    _same(read_dots(path, order="yx"), [[88.5, 612], [10, 20]])


def test_order_swaps_a_table_with_header(tmp_path):
    path = _file(tmp_path, "z,y,x\n1,2,3\n")
    _same(read_dots(path, order="xy"), [[1, 3, 2]])


def test_micrometres(tmp_path):
    path = _file(tmp_path, "z,y,x\n4,10,20\n")
    _same(read_dots(path, spacing=(2, 0.5, 0.5)), [[2, 20, 40]])
    measured = _file(tmp_path, "Image\tCentroid X µm\tCentroid Y µm\na\t5.25\t10.25\n", "m.tsv")
    assert "micrometres" in _fails(measured)
    # QuPath measures from the corner: pixel 10 has its centre at 10.5 pixels.
    _same(read_dots(measured, spacing=0.5), [[20, 10]])


def test_a_table_of_several_images(tmp_path):
    path = _file(tmp_path, "image,x,y\na.tif,1,2\nb.tif,3,4\na.tif,5,6\n")
    assert "image_name=" in _fails(path)
    _same(read_dots(path, image_name="a.png"), [[2, 1], [6, 5]])
    assert "'c.tif'" in _fails(path, image_name="c.tif")


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("y,x\n1,2\n3,nan\n", 3, "'nan'"),
        ("y,x\n1,2\n\ninf,4\n", 4, "'inf'"),
        ("y,x\n1,2\n3\n", 3, "1 cells where the first line has 2"),
        ("y,x\n1,2,3,4\n", 2, "4 cells"),
        ("y,x\n1_0,2\n", 2, "1_0"),
        ("y,x\n1,1e999\n", 2, "1e999"),
        ("y,x\n1,1e30\n", 2, "not a position"),
        ("y,x\n1,\n", 2, "''"),
        ('y,x\n"1,2\n3,4\n', None, "quot"),
        ("x;y\n1.234,5;2\n", 2, "decimal"),
        ('x,y\n"1,5",2\n', 2, "1,5"),
        ("x,x,y\n1,2,3\n", 1, "two columns"),
        ("a,b\n1,2\n", None, "'a', 'b'"),
        ("y,x\n#1,2\n", 2, "#1"),
        ("y,x,score\n1,2,high\n", 2, "high"),
        ("", None, "empty"),
        (" \n\n", None, "empty"),
        (b"\x00\x01\x02", 1, "neither text"),
        ("<html></html>", None, "html"),
        ('{"a": 1}', None, "neither GeoJSON"),
    ],
)
def test_bad_files_name_the_line(tmp_path, text, line, words):
    message = _fails(_file(tmp_path, text))
    assert words in message
    if line is not None:
        assert message.startswith(f", line {line}: ")


def test_dots_outside_name_line_and_likely_reason(tmp_path):
    path = _file(tmp_path, "y,x\n" + "5,6\n" * 12 + "612,88\n")
    assert _fails(path, image_shape=(520, 696)) == (
        ", line 14: dot (y=612.0, x=88.0) lies outside the image (520 high, 696 wide). "
        'Are x and y swapped? If so: cellcount dots convert FILE NEW.csv --order xy (order="xy" '
        "in Python)"
    )
    _same(read_dots(path, image_shape=(520, 696), order="xy"), [[6, 5]] * 12 + [[88, 612]])
    rim = _file(tmp_path, "y,x\n-0.5,695.5\n")
    assert len(read_dots(rim, image_shape=(520, 696))) == 1
    one = _file(tmp_path, "y,x\n520.4,696\n1,1\n")
    assert "count from 1" in _fails(one, image_shape=(520, 696))


def test_axes_must_fit_the_image(tmp_path):
    flat, deep = _file(tmp_path, "y,x\n1,2\n"), _file(tmp_path, "z,y,x\n1,2,3\n4,5,6\n", "d.csv")
    assert "no z" in _fails(flat, image_shape=(9, 9, 9))
    assert "several planes" in _fails(deep, image_shape=(9, 9))
    one_plane = _file(tmp_path, "z,y,x\n4,2,3\n4,5,6\n", "o.csv")
    _same(read_dots(one_plane, image_shape=(9, 9)), [[2, 3], [5, 6]])
    empty = _file(tmp_path, "y,x\n", "e.csv")
    assert read_dots(empty, image_shape=(9, 9, 9)).points.shape == (0, 3)


def test_dots_are_checked():
    with pytest.raises(ValueError, match=r"\[N, 2\] or \[N, 3\]"):
        Dots(np.zeros(3))
    with pytest.raises(ValueError, match="not finite"):
        Dots(np.array([[np.nan, 1]]))
    with pytest.raises(ValueError, match="2 finite numbers"):
        Dots(np.zeros((2, 2)), scores=[1])
    with pytest.raises(ValueError, match="1 labels for 2 dots"):
        Dots(np.zeros((2, 2)), labels=["a"])


def test_options_are_checked(tmp_path):
    path = _file(tmp_path, "y,x\n1,2\n")
    for options in ({"format": "xls"}, {"order": "zyx"}, {"spacing": -1}, {"image_shape": (3,)}):
        with pytest.raises(ValueError, match=r"one of|positive|must be"):
            read_dots(path, **options)


def test_a_large_table(tmp_path):
    points = np.random.default_rng(0).uniform(0, 2000, (100_000, 3)).astype(np.float32)
    path = tmp_path / "large.csv"
    write_dots(path, Dots(points, points[:, 0]))
    _same(read_dots(path, image_shape=(2001, 2001, 2001)), points, points[:, 0])


@pytest.mark.parametrize("beyond", [[20.0, 5.0], [-1.0, 5.0], [7.0, 29.9], [19.7, 30.0]])
def test_a_dot_up_to_a_pixel_beyond_the_border_is_moved_to_it_with_a_remark(
    tmp_path, beyond, caplog
):
    path = tmp_path / "a.csv"
    path.write_text(f"y,x\n3,4\n{beyond[0]},{beyond[1]}\n-0.5,29.5\n")
    found = read_dots(path, image_shape=(20, 30)).points
    np.testing.assert_array_equal(found[0], [3, 4])
    np.testing.assert_array_equal(found[1], np.clip(beyond, 0, [19, 29]).astype(np.float32))
    np.testing.assert_array_equal(found[2], [-0.5, 29.5])  # on the border
    assert caplog.messages == [
        f"{path}: 1 of 3 dots lie up to a pixel beyond the border of the image and are moved to "
        "it; does the file count from 1?"
    ]


def test_a_dot_further_beyond_the_border_is_an_error(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("y,x\n20,4\n20.1,5\n")
    with pytest.raises(ValueError, match=r"line 3: dot \(y=20\.1, x=5\.0\) lies outside"):
        read_dots(path, image_shape=(20, 30))
