"""Hot pixels and fills are replaced, everything else stays as it is."""

import numpy as np
import pytest

from cellcount_jax.data import outliers
from cellcount_jax.data.preprocess import Preprocessing, intensity_range
from cellcount_jax.simulation.simulate import simulate_cells

BY_IMAGE = Preprocessing(channels=1, normalise="percentile")


def _cells(shape: tuple[int, ...] = (120, 160), dtype: type = np.uint16) -> np.ndarray:
    """Bright discs of 12 pixels on a noisy background, [*space, 1]."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[: shape[-2], : shape[-1]]
    image = np.full(shape, 300.0)
    for cy, cx in rng.uniform(10, np.array(shape[-2:]) - 10, (15, 2)):
        image += 2700 / (1 + np.exp(np.minimum((np.hypot(y - cy, x - cx) - 6) * 1.5, 50)))
    image = np.clip(image, 0, 3000) + rng.normal(0, 20, shape)
    scale = 200 / 3100 if dtype == np.uint8 else 1
    return np.clip(image * scale, 0, None)[..., None].astype(dtype)


class Parts:
    """An image that is read by parts."""

    def __init__(self, array: np.ndarray):
        self.array, self.shape, self.dtype = array, array.shape, array.dtype

    def read(self, slices):
        return self.array[slices]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_an_image_without_outliers_is_not_touched(dtype, caplog):
    image = _cells(dtype=dtype)
    assert outliers.replace_outliers(image)[0] is image
    simulated = simulate_cells(1)[0]
    assert outliers.replace_outliers(simulated)[0] is simulated
    assert not caplog.text


@pytest.mark.parametrize("sigma", [0.6, 1.0, 3.0])
@pytest.mark.parametrize("offset", [0.0, 0.5])
def test_the_image_of_a_point_is_no_hot_pixel(sigma, offset):
    y, x = np.mgrid[:60, :60]
    image = np.full((60, 60), 100.0)
    for cy in range(10, 60, 15):
        image += 5000 * np.exp(-((y - cy - offset) ** 2 + (x - 30) ** 2) / (2 * sigma**2))
    image = np.random.default_rng(0).poisson(image)[..., None].astype(np.uint16)
    assert outliers.replace_outliers(image)[0] is image


@pytest.mark.parametrize(
    ("dtype", "value"), [(np.uint8, 255), (np.uint16, 65535), (np.float32, 1e6)]
)
@pytest.mark.parametrize("place", [(0, 0), (119, 159), (40, 0), (3, 80)])
def test_a_hot_pixel_takes_the_value_around_it(dtype, value, place, caplog):
    clean = _cells(dtype=dtype)
    image = clean.copy()
    image[place] = value
    found, view = outliers.replace_outliers(image)
    assert image[place] == value
    np.testing.assert_array_equal(found, view)
    assert abs(float(found[place][0]) - clean[place][0]) < 0.05 * float(clean.max())
    found[place] = clean[place]
    np.testing.assert_array_equal(found, clean)
    assert "hot pixels or salt noise (1)" in caplog.text


def test_salt_does_not_set_the_intensity_range():
    clean = _cells()
    image = clean.copy()
    image.ravel()[np.random.default_rng(1).choice(image.size, 200, replace=False)] = 65535
    found = outliers.replace_outliers(image)[0]
    assert (found == 65535).sum() == 0
    np.testing.assert_allclose(
        intensity_range(found, BY_IMAGE), intensity_range(clean, BY_IMAGE), rtol=0.01
    )


@pytest.mark.parametrize(
    ("dtype", "value"), [(np.uint8, 255), (np.uint16, 65535), (np.uint16, 0), (np.float32, 0)]
)
@pytest.mark.parametrize("shape", [(120, 160), (4, 120, 160)])
def test_a_filled_border_is_background(dtype, value, shape, caplog):
    clean = _cells(shape, dtype)
    image = clean.copy()
    y, x = np.mgrid[:120, :160]
    fill = np.broadcast_to((x < 30) | (x + y > 250), shape)
    image[fill] = value
    found = outliers.replace_outliers(image, "a.tif")[0]
    np.testing.assert_array_equal(found[~fill], clean[~fill])
    assert (found[fill] == found[fill][0]).all()
    assert abs(float(found[fill][0, 0]) / np.median(clean) - 1) < 0.1
    np.testing.assert_allclose(
        intensity_range(found, BY_IMAGE), intensity_range(clean, BY_IMAGE), rtol=0.06
    )
    assert f"of its values are {value}, which fills the border" in caplog.text


def test_what_is_no_fill_stays(caplog):
    saturated = np.minimum(_cells(), 1500)
    saturated[saturated == 1500] = 65535
    masked = _cells()
    masked[masked < 1000] = 0
    mask = (_cells() > 1000).astype(np.uint8) * 255
    dark = 3100 - _cells()
    dark[dark < 500] = 0
    for image in (saturated, masked, mask, dark):
        assert outliers.replace_outliers(image)[0] is image
    assert not caplog.text


@pytest.mark.parametrize("shape", [(120, 160), (3, 120, 160)])
@pytest.mark.parametrize("limit", [4_000_000, 5000])  # all, or a part of the values are looked at
def test_parts_are_mended_as_the_whole(shape, limit, monkeypatch):
    image = _cells(shape)
    image[..., :20, :] = 65535
    image[..., 50, 63:65, :] = 65535
    whole = outliers.replace_outliers(image)[0]
    monkeypatch.setattr("cellcount_jax.io.images.readable.SAMPLE_LIMIT", limit)
    found = outliers.replace_outliers(Parts(image))[0]
    assert found.shape == image.shape
    planes = (slice(0, None, 1),) * (image.ndim - 3)
    assert whole.max() < 4000
    for slices in (
        (slice(None),) * image.ndim,
        *((*planes, slice(10, 51), x) for x in (slice(40, 64), slice(64, 90), slice(150, 160))),
        (*planes, slice(0, 45, 3), slice(5, None, 4)),
    ):
        # The median that takes the place of a fill is that of the values that were looked at.
        np.testing.assert_allclose(found.read(slices), whole[slices], atol=10)
