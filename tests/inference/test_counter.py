"""What a counter takes and says: paths, arrays of any kind and order of axes, short reprs."""

import dataclasses

import dask.array
import numpy as np
import pytest
import tifffile
import zarr

from cellcount_jax.data.resampling import Resampling
from cellcount_jax.inference import window_pass
from cellcount_jax.inference.counter import Counter
from cellcount_jax.io.images import readable
from tests.data.disc_images import discs
from tests.inference.disc_counter import disc_counter
from tests.inference.made_counters import bright_counter, cells, made


class ReadInParts:
    """An array that is sliced like one of NumPy, as those of zarr and dask are."""

    def __init__(self, values: np.ndarray):
        self.values, self.shape, self.dtype = values, values.shape, values.dtype
        self.largest_read = 0

    def __getitem__(self, slices):
        part = self.values[slices]
        self.largest_read = max(self.largest_read, part.size)
        return part


@pytest.fixture(scope="module")
def counter() -> Counter:
    return made("density")


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return cells((60, 44))


def test_a_path_counts_as_the_image_in_it(counter, image, tmp_path):
    expected = counter.count(image)
    tifffile.imwrite(tmp_path / "a.tif", image, photometric="rgb")
    np.save(tmp_path / "a.npy", np.moveaxis(image, -1, 0))
    for path in (tmp_path / "a.tif", str(tmp_path / "a.tif")):
        assert counter.count(path).count == expected.count
    assert counter.count(tmp_path / "a.npy", axes="CYX").count == expected.count
    with pytest.raises(ValueError, match="absent"):
        counter.count(tmp_path / "absent.tif")


def test_the_pixel_size_of_a_file_is_used_unless_another_is_given(counter, image, tmp_path):
    scaled = dataclasses.replace(counter, resampling=Resampling(pixel_size=0.5))
    size = {"axes": "YXS", "PhysicalSizeX": 0.25, "PhysicalSizeY": 0.25}
    tifffile.imwrite(tmp_path / "a.ome.tif", image, photometric="rgb", metadata=size)
    assert scaled.count(tmp_path / "a.ome.tif").scale == 0.5
    assert scaled.count(tmp_path / "a.ome.tif", spacing=(1.0, 1.0)).scale == 2.0
    assert scaled.count(image).scale == 1.0


@pytest.mark.parametrize("axes", ["YXC", "CYX", "YCX"])
def test_axes_may_be_in_any_order(counter, image, axes):
    turned = np.transpose(image, ["YXC".index(a) for a in axes])
    assert counter.count(turned, axes=axes).count == counter.count(image).count


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("axes", ["YXC", "CYX"])
def test_arrays_of_other_libraries_count_as_those_of_numpy(
    counter, image, axes, large, tmp_path, monkeypatch
):
    expected = counter.count(image)
    turned = np.transpose(image, ["YXC".index(a) for a in axes])
    stored = zarr.create_array(tmp_path / "a.zarr", data=turned, chunks=turned.shape)
    if large:
        monkeypatch.setattr(window_pass, "PIXELS_IN_MEMORY", 100)
    for array in (stored, ReadInParts(turned)):
        found = counter.count(array, axes=axes)
        assert found.count == pytest.approx(expected.count, rel=1e-6)
        np.testing.assert_array_equal(found.points, expected.points)
        assert bool(found.maps) != large


def test_a_large_array_is_never_read_as_a_whole(counter, monkeypatch):
    monkeypatch.setattr(window_pass, "PIXELS_IN_MEMORY", 100)
    monkeypatch.setattr(readable, "SAMPLE_LIMIT", 1000)
    array = ReadInParts(cells((4000, 24)))
    dataclasses.replace(counter, max_window=64).count(array)
    assert 0 < array.largest_read < array.values.size / 2


@pytest.mark.parametrize("axes", ["YX", "CYX", "YXC"])
def test_windows_of_an_array_are_read_in_any_order_of_axes(axes, monkeypatch):
    monkeypatch.setattr(window_pass, "PIXELS_IN_MEMORY", 100)
    image = cells((150, 180))[..., :1]
    turned = image[..., 0] if axes == "YX" else np.transpose(image, ["YXC".index(a) for a in axes])
    counter = dataclasses.replace(bright_counter(), max_window=32)
    expected = counter.count(image)
    found = counter.count(ReadInParts(turned), axes=axes)
    assert not found.maps
    assert found.count == pytest.approx(expected.count, rel=1e-6)
    np.testing.assert_array_equal(found.points, expected.points)


def test_a_dask_array_is_counted(counter, image):
    found = counter.count(dask.array.from_array(image, chunks=(30, 20, 3)))
    assert found.count == counter.count(image).count


def test_an_image_without_channels_is_counted_alone_and_in_a_row():
    bright = disc_counter(None)
    image = discs((120, 150), 14)[0][..., 0]
    assert image.ndim == 2
    assert bright.count(image).count == next(bright.count_all([image])).count > 0


@pytest.mark.parametrize("thing", [None, 3, [[1, 2], [3, 4]], b"a.tif", object()])
def test_what_is_neither_path_nor_array_is_a_type_error(counter, thing):
    with pytest.raises(TypeError, match=r"an image must be a path or an array .*, not builtins"):
        counter.count(thing)
    with pytest.raises(TypeError, match="an image must be"):
        next(counter.count_all([thing]))


@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((5,), None),
        ((3, 3, 3, 3, 1), None),
        ((0, 5, 1), None),
        ((5, 0), None),
        ((9, 9), "YXC"),
        ((9, 9, 3), "YXZ"),
        ((9, 9, 3), "XYC"),
        ((3, 3, 9, 9), "CCYX"),
        ((9, 9, 3), "YXT"),
    ],
)
def test_shapes_and_axes_that_are_no_image(counter, shape, axes):
    with pytest.raises(ValueError, match="an image of shape") as error:
        counter.count(np.zeros(shape), axes=axes)
    assert "\n" not in str(error.value)


def test_a_given_diameter_replaces_the_estimate():
    image = discs((120, 150), 28)[0]
    trained_at_one_size = disc_counter(14.0)
    assert trained_at_one_size.count(image).scale == pytest.approx(0.5, rel=0.3)
    assert trained_at_one_size.count(image, diameter=7.0).scale == 2.0
    assert trained_at_one_size.with_cell_diameter(7.0).count(image).scale == 2.0
    with pytest.raises(ValueError, match="diameter -1"):
        trained_at_one_size.count(image, diameter=-1.0)
    with pytest.raises(ValueError, match="not trained on cells of one size"):
        disc_counter(None).count(image, diameter=7.0)


def test_the_repr_is_short():
    text = repr(Counter.load("nuclei"))
    assert text == (
        "Counter(name='nuclei', method='density', dataset='dsb2018', version='0.1.0', "
        "n_weights=113617)"
    )
    assert len(repr(made("dcl"))) < 100


def test_files_are_counted_under_the_name_that_the_model_was_loaded_by(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", cells((64, 64))[..., 0])
    (row,) = Counter.load("nuclei").count_files(tmp_path / "a.tif", out=tmp_path / "out")
    assert (row["status"], row["model"]) == ("ok", "nuclei")
    assert float(row["count"]) == Counter.load("nuclei").count(tmp_path / "a.tif").count
