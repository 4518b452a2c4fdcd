"""Intensity range, channels, mean and std; a part is preprocessed like the whole."""

import json
from pathlib import Path

import numpy as np
import pytest

from cellcount_jax.data.preprocess import (
    MIN_RELATIVE_STD,
    Preprocessing,
    apply,
    intensity_range,
    preprocess,
    with_measured_range,
)
from cellcount_jax.defaults import IMAGENET_MEAN, IMAGENET_STD
from cellcount_jax.io.images import readable
from cellcount_jax.io.images.image import open_lazy
from cellcount_jax.io.images.readable import sample_grid
from tests.io.images.image_writers import pixels, tiff_bytes

PERCENTILE = Preprocessing(channels=1, normalise="percentile")
MINMAX = Preprocessing(channels=1, normalise="minmax")


@pytest.mark.parametrize(
    ("dtype", "top"), [("uint8", 255), ("uint16", 65535), ("int16", 32767), ("bool", 1)]
)
def test_integers_are_divided_by_the_maximum_of_their_type(dtype: str, top: int) -> None:
    array = np.array([[[0], [1]]]).astype(dtype)
    array[0, 1] = top
    result = preprocess(array, Preprocessing(channels=1))
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result, [[[0.0], [1.0]]])


def test_floats_must_lie_between_0_and_1() -> None:
    array = pixels(5, 4, 1, dtype="float64")
    np.testing.assert_allclose(preprocess(array, Preprocessing(channels=1)), array, rtol=1e-6)
    preprocess(array + 0.0005, Preprocessing())
    with pytest.raises(ValueError, match=r'outside \[0, 1\]; use normalise="percentile"'):
        preprocess(array * 255, Preprocessing())


@pytest.mark.parametrize("dtype", ["uint32", "int64"])
def test_wide_integers_need_a_range(dtype: str) -> None:
    array = pixels(9, 8, 1, dtype=dtype)
    with pytest.raises(ValueError, match='use normalise="percentile"'):
        preprocess(array, Preprocessing())
    result = preprocess(array, MINMAX)
    assert (result.min(), result.max()) == (0, 1)


def test_mean_and_std_per_channel() -> None:
    array = pixels(6, 5, 3)
    setting = Preprocessing(mean=IMAGENET_MEAN, std=IMAGENET_STD)
    expected = (array / 255 - np.array(IMAGENET_MEAN)) / np.array(IMAGENET_STD)
    np.testing.assert_allclose(preprocess(array, setting), expected, rtol=1e-5, atol=1e-6)
    single = Preprocessing(channels=3, mean=(0.5,), std=(0.25,))
    np.testing.assert_allclose(preprocess(array, single), (array / 255 - 0.5) * 4, atol=1e-5)


def test_the_range_of_training_images_is_measured_over_all_pixels() -> None:
    rng = np.random.default_rng(0)
    images = [
        rng.integers(0, top, (9, side, 3)).astype(np.uint8) for top, side in ((40, 7), (200, 4))
    ]
    for image in images:
        image[..., 2] = 7  # a channel without anything in it
    found = with_measured_range(Preprocessing(), images)
    pixels = np.concatenate([i.reshape(-1, 3) for i in images]) / 255
    np.testing.assert_allclose(found.mean, pixels.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(found.std[:2], pixels.std(axis=0)[:2], atol=1e-5)
    assert found.std[2] == pytest.approx(MIN_RELATIVE_STD * max(found.std), rel=1e-4)
    with pytest.raises(ValueError, match="no training images"):
        with_measured_range(Preprocessing(), [])


def test_percentiles_become_0_and_1() -> None:
    array = np.arange(1001, dtype="uint16").reshape(7, 143, 1)
    result = preprocess(array, Preprocessing(channels=1, normalise="percentile", low=10, high=90))
    expected = (array.astype(float) - 100) / 800
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-6)
    assert result.max() > 1 > 0 > result.min()


def test_extreme_values_are_clipped() -> None:
    array = np.zeros((100, 100, 1), np.float32)
    array[::2] = 1
    array[0, 0], array[0, 1] = 1e6, -1e6
    result = preprocess(array, Preprocessing(channels=1, normalise="percentile", low=1, high=99))
    assert (result.min(), result.max()) == (-4, 5)


@pytest.mark.parametrize("setting", [PERCENTILE, MINMAX])
@pytest.mark.parametrize("dtype", ["uint8", "float32", "bool", "float16"])
def test_a_constant_image_is_zero(setting: Preprocessing, dtype: str) -> None:
    result = preprocess(np.ones((6, 5, 1), dtype), setting)
    np.testing.assert_array_equal(result, np.zeros((6, 5, 1), np.float32))


def test_a_few_cells_on_an_empty_background_stay_visible() -> None:
    array = np.zeros((100, 100, 1), np.uint16)
    array[50, 50], array[20, 20] = 400, 200
    result = preprocess(array, PERCENTILE)
    assert result[50, 50, 0] == 1
    assert result[20, 20, 0] == 0.5
    assert np.count_nonzero(result) == 2


@pytest.mark.parametrize("normalise", ["dtype", "percentile", "minmax"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_errors(normalise: str, value: float) -> None:
    array = pixels(6, 5, 1, dtype="float32")
    array[0, :2] = value
    with pytest.raises(ValueError, match="2 of 30 values are not finite"):
        preprocess(array, Preprocessing.from_dict({"channels": 1, "normalise": normalise}))


def test_extreme_floats_stay_finite() -> None:
    tiny = np.array([[[0.0], [5e-324]]])
    assert np.isfinite(preprocess(tiny, MINMAX)).all()
    narrow = np.full((100, 100, 1), 5e-324)
    narrow[::2], narrow[0, 0] = 0, 1e300
    assert preprocess(narrow, PERCENTILE).max() == 5
    assert np.isfinite(preprocess(np.array([[[3e38], [-3e38]]], np.float32), MINMAX)).all()
    with pytest.raises(ValueError, match="are not valid intensities"):
        preprocess(np.array([[[1.7e308], [-1.7e308]]]), MINMAX)


@pytest.mark.parametrize("dtype", ["complex64", "datetime64[s]"])
def test_types_that_are_not_intensities(dtype: str) -> None:
    for setting in (Preprocessing(), PERCENTILE):
        with pytest.raises(ValueError, match="are not intensities"):
            preprocess(np.zeros((3, 3, 1), dtype), setting)


def test_channels_are_adapted() -> None:
    one, two, three = pixels(6, 5, 1), pixels(6, 5, 2), pixels(6, 5, 3)
    for number in (1, 3, 4):
        result = preprocess(one, Preprocessing(channels=number))
        np.testing.assert_array_equal(result, np.repeat(result[..., :1], number, axis=-1))
    padded = preprocess(two, Preprocessing())
    np.testing.assert_array_equal(padded[..., 2], 0)
    np.testing.assert_array_equal(padded[..., :2], preprocess(two, Preprocessing(channels=2)))
    grey = preprocess(three, Preprocessing(channels=1))
    np.testing.assert_allclose(grey[..., 0], three.mean(axis=-1) / 255, rtol=1e-6)
    for given, wanted in [(4, 3), (2, 1), (3, 2)]:
        with pytest.raises(ValueError, match=f"has {given} channels and the model takes {wanted}"):
            preprocess(pixels(6, 5, given), Preprocessing(channels=wanted))


@pytest.mark.parametrize("shape", [(5, 4), (0, 4, 1), (2, 3, 4, 5, 1)])
def test_shapes_that_are_not_images(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"must be \[H, W, C\] or \[D, H, W, C\]"):
        preprocess(np.zeros(shape), Preprocessing())


@pytest.mark.parametrize("normalise", ["dtype", "percentile", "minmax"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_part_is_preprocessed_like_the_whole(normalise: str, dtype: str, channels: int) -> None:
    array = pixels(9, 33, 31, 3, dtype=dtype)
    setting = Preprocessing.from_dict(
        {"channels": channels, "normalise": normalise, "mean": [0.3], "std": [0.7]}
    )
    range_ = intensity_range(array, setting)
    whole = apply(array, setting, range_)
    for part in [np.s_[2:5, 7:20, 3:30], np.s_[:1, :1, :1], np.s_[::2, ::3, ::-1]]:
        np.testing.assert_array_equal(apply(array[part], setting, range_), whole[part])


def test_a_large_image_is_sampled_on_a_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readable, "SAMPLE_LIMIT", 1000)
    array = pixels(100, 120, 2, dtype="uint16")
    grid = sample_grid(array.shape)
    assert array[grid].size <= 1000
    assert intensity_range(array, MINMAX) == (array[grid].min(), array[grid].max())
    expected = np.percentile(array[grid], (1, 99.8))
    np.testing.assert_allclose(intensity_range(array, PERCENTILE), expected)


def test_the_range_is_the_same_in_memory_and_by_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    array = pixels(5, 60, 70, dtype="uint16")
    path = tmp_path / "stack.tif"
    path.write_bytes(tiff_bytes(array, tile=(16, 16), compression="zlib"))
    for limit in (10**6, 1000):
        monkeypatch.setattr(readable, "SAMPLE_LIMIT", limit)
        with open_lazy(path) as lazy:
            for setting in (PERCENTILE, MINMAX):
                expected = intensity_range(array[..., None], setting)
                assert intensity_range(lazy, setting) == expected


def test_settings_round_trip_through_json() -> None:
    setting = Preprocessing(channels=3, normalise="percentile", low=2, mean=IMAGENET_MEAN)
    assert Preprocessing.from_dict(json.loads(json.dumps(setting.to_dict()))) == setting
    assert Preprocessing.from_dict({}) == Preprocessing()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"chanels": 3}, r"unknown fields \['chanels'\]"),
        ({"channels": 0}, "channels=0 must be 1 or more"),
        ({"channels": 1.5}, r"channels=1\.5"),
        ({"normalise": "zscore"}, "must be one of"),
        ({"low": 99, "high": 1}, "must be in order"),
        ({"high": 101}, "must be in order"),
        ({"mean": [1, 2]}, "must be one number or 3"),
        ({"mean": [float("nan")]}, "must be one number or 3"),
        ({"std": [0.0]}, "must be greater than 0"),
    ],
)
def test_invalid_settings(fields: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Preprocessing.from_dict(fields)


def test_published_images_are_normalised(raw_dir: Path) -> None:
    with open_lazy(raw_dir / "vgg_cells" / "001cell.png") as lazy:
        result = preprocess(lazy.read(), Preprocessing(mean=IMAGENET_MEAN, std=IMAGENET_STD))
        assert intensity_range(lazy, PERCENTILE).low >= 0
    assert result.shape == (256, 256, 3)
    assert np.isfinite(result).all()
