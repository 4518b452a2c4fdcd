"""What is written is read back, to the precision of each format."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cellcount_jax.io.annotations import dots
from cellcount_jax.io.annotations.dots import Dots, detect_format, read_dots, write_dots
from tests.io.annotations.dots_files import same as _same

_EXTENSIONS = {"cell_counter": ".xml", "labelme": ".json", "coco": ".json", "geojson": ".geojson"}
_FLAT = ("labelme", "coco")
_WHOLE_PLANES = ("roi", "roi_zip", "geojson", "qupath_tsv", "cell_counter")
_IMAGE_FORMATS = ("dots_image", "label_mask")


def _extension(format: str, ndim: int) -> str:
    if format in _IMAGE_FORMATS:
        return ".png" if ndim == 2 else ".tif"
    return _EXTENSIONS.get(format, ".dots")


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("format", dots.FORMAT_NAMES)
@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_round_trip(tmp_path, format, ndim, data):
    whole = format in (*_IMAGE_FORMATS, "cell_counter")
    number = st.integers(0, 60).map(float)
    if not whole:
        number |= st.floats(0, 60, width=32).filter(lambda v: v == 0 or v > 1e-3)
    points = data.draw(
        hnp.arrays(np.float32, st.tuples(st.integers(1, 12), st.just(ndim)), elements=number)
    )
    if format in _WHOLE_PLANES and ndim == 3:
        points[:, 0] = np.rint(points[:, 0])
    if format in _IMAGE_FORMATS:
        points = np.unique(points, axis=0)
    path = tmp_path / f"round{_extension(format, ndim)}"
    if format in _FLAT and ndim == 3:
        with pytest.raises(ValueError, match="hold no z"):
            write_dots(path, points, format=format)
        return
    shape = (61,) * ndim
    write_dots(path, points, format=format, image_shape=shape)
    _same(read_dots(path, format=format, image_shape=shape), points)
    found = detect_format(path)
    assert found == format or (format, found) in (
        ("spotiflow", "csv"),
        ("label_mask", "dots_image"),
    )


@pytest.mark.parametrize("format", ["csv", "napari", "spotiflow", "geojson", "labelme", "coco"])
def test_scores_and_labels_come_back(tmp_path, format):
    points = np.array([[1.5, 2.25], [3, 4]])
    path = tmp_path / f"all{_EXTENSIONS.get(format, '.csv')}"
    write_dots(path, Dots(points, [0.1, 0.7], ["a b", 'c, "d"']), format=format)
    _same(read_dots(path), points, [0.1, 0.7], ["a b", 'c, "d"'])


@pytest.mark.parametrize("format", ["roi_zip", "qupath_tsv", "cell_counter"])
def test_labels_come_back(tmp_path, format):
    points = np.array([[1, 2], [3, 4], [5, 6]])
    path = tmp_path / f"labels{_EXTENSIONS.get(format, '')}"
    write_dots(path, Dots(points, None, ["a", "a", "<b>"]), format=format)
    _same(read_dots(path), points, None, ["a", "a", "<b>"])


@pytest.mark.parametrize("format", [f for f in dots.FORMAT_NAMES if f != "roi"])
def test_no_dots_come_back(tmp_path, format):
    path = tmp_path / f"none{_extension(format, 2)}"
    write_dots(path, np.zeros((0, 2)), format=format, image_shape=(9, 9))
    assert read_dots(path, format=format).points.shape == (0, 2)


def test_an_empty_volume_keeps_its_axes(tmp_path):
    path = tmp_path / "none.csv"
    write_dots(path, np.zeros((0, 3)))
    assert read_dots(path).points.shape == (0, 3)


def test_the_extension_chooses_the_format_to_write(tmp_path):
    for extension in (".csv", ".roi", ".zip", ".xml", ".geojson", ".tsv"):
        path = tmp_path / f"dots{extension}"
        write_dots(path, np.array([[1.0, 2.0]]))
        _same(read_dots(path), [[1, 2]])
    with pytest.raises(ValueError, match="Pass format="):
        write_dots(tmp_path / "dots.json", np.array([[1.0, 2.0]]))
    with pytest.raises(ValueError, match="zero dots"):
        write_dots(tmp_path / "none.roi", np.zeros((0, 2)))
    write_dots(tmp_path / "own.csv", Dots(np.array([[1, 2, 3]]), [0.5]))
    assert (tmp_path / "own.csv").read_text() == "z,y,x,score\n1.0,2.0,3.0,0.5\n"
