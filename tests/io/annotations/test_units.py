"""Positions in micrometres: converted by the image's pixel size, refused, or remarked on."""

from pathlib import Path

import numpy as np
import pytest
import tifffile

from cellcount_jax.cli.main import main
from cellcount_jax.datasets.folder import read_folder
from cellcount_jax.io.annotations.dots import read_dots
from cellcount_jax.io.annotations.validate import check_dots

SHAPE, SIZE = (200, 300), (0.65, 0.65)


def _points(n: int = 30) -> np.ndarray:
    return np.random.default_rng(0).uniform(0.3, np.array(SHAPE) - 1, (n, 2)).astype(np.float32)


def _results(path: Path, points: np.ndarray, header: str = " ,Area,Mean,X,Y") -> Path:
    rows = [f"{i},3.5,100,{x:.3f},{y:.3f}" for i, (y, x) in enumerate(points, 1)]
    path.write_text("\n".join([header, *rows, ""]))
    return path


def test_results_of_imagej_are_in_the_unit_of_the_image(tmp_path, caplog):
    path = _results(tmp_path / "a.csv", _points() * SIZE)
    found = read_dots(path, image_shape=SHAPE, pixel_size=SIZE).points
    np.testing.assert_allclose(found, _points(), atol=2e-3)
    assert "divided by the image's pixel size, 0.65 x 0.65 um" in caplog.text


@pytest.mark.parametrize("size", [(0.65, 0.65), (1.6, 1.6), (0.5, 0.3)])
def test_results_measured_without_calibration_stay_pixels(tmp_path, caplog, size):
    path = _results(tmp_path / "a.csv", _points())
    found = read_dots(path, image_shape=SHAPE, pixel_size=size).points
    np.testing.assert_allclose(found, _points(), atol=2e-3)
    assert not caplog.text


@pytest.mark.parametrize("n", [1, 3, 30])
@pytest.mark.parametrize("size", [(0.1, 0.1), (1.6, 1.6)])
def test_few_dots_and_large_pixels_are_in_the_unit_of_the_image(tmp_path, n, size):
    path = _results(tmp_path / "a.csv", _points(n) * size)
    found = read_dots(path, image_shape=SHAPE, pixel_size=size).points
    np.testing.assert_allclose(found, _points(n), atol=0.01)


def test_planes_of_results_are_numbers_not_micrometres(tmp_path):
    path = _results(tmp_path / "a.csv", _points() * SIZE, " ,Area,Slice,X,Y")
    path.write_text(path.read_text().replace(",100,", ",3,"))
    found = read_dots(path, image_shape=(5, *SHAPE), pixel_size=(2.0, *SIZE)).points
    assert (found[:, 0] == 2).all()
    np.testing.assert_allclose(found[:, 1:], _points(), atol=2e-3)


def test_qupath_in_micrometres_needs_a_pixel_size(tmp_path):
    path = tmp_path / "m.tsv"
    path.write_text("Image\tCentroid X µm\tCentroid Y µm\na\t5.25\t10.25\n")
    with pytest.raises(ValueError, match=r"does not say its pixel size.*--voxel-size"):
        read_dots(path, image_shape=SHAPE)
    found = read_dots(path, image_shape=SHAPE, pixel_size=(0.5, 0.5)).points
    np.testing.assert_array_equal(found, [[20, 10]])


def test_a_plain_table_in_the_corner_of_micrometres_is_doubted(tmp_path, caplog):
    path = tmp_path / "a.csv"
    np.savetxt(path, _points() * SIZE, delimiter=",", header="y,x", comments="")
    (finding,) = check_dots(path, SHAPE, pixel_size=SIZE)
    assert finding.kind == "physical_units"
    assert check_dots(path, SHAPE) == []
    read_dots(path, image_shape=SHAPE, pixel_size=SIZE)
    assert "taken as pixels" in caplog.text


def test_training_and_checking_use_the_size_of_the_image(tmp_path, capsys):
    (tmp_path / "images").mkdir()
    (tmp_path / "dots").mkdir()
    tifffile.imwrite(
        tmp_path / "images" / "a.tif",
        np.zeros(SHAPE, np.uint16),
        imagej=True,
        resolution=(1 / 0.65, 1 / 0.65),
        metadata={"unit": "micron"},
    )
    _results(tmp_path / "dots" / "a.csv", _points() * SIZE)
    (sample,), _ = read_folder(tmp_path)
    np.testing.assert_allclose(sample.dots, _points(), atol=2e-3)
    assert main(["dots", "check", str(tmp_path)]) == 0
    assert "divided by the image's pixel size" in capsys.readouterr().err
    source, target = str(tmp_path / "dots" / "a.csv"), str(tmp_path / "px.csv")
    assert main(["dots", "convert", source, target, "--voxel-size", "1", "0.65", "0.65"]) == 0
    np.testing.assert_allclose(read_dots(target).points, _points(), atol=2e-3)
