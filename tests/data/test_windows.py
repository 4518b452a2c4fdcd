"""Windows equal that part of the whole image."""

import functools

import numpy as np
import pytest

from cellcount_jax.data import batches, targets, windows
from cellcount_jax.data.preprocess import Preprocessing
from cellcount_jax.data.sample import Sample


@pytest.mark.parametrize("sigma", [0.0, 1.0, 3.0, (4.0, 0.6)])
def test_density_of_a_window_is_the_window_of_the_density(sigma):
    rng = np.random.default_rng(0)
    shape = (60, 70)
    border = [[-0.5, -0.5], [59.4, 69.4], [0.0, 35.5]]
    dots = np.concatenate([rng.uniform(-0.5, (59.5, 69.5), (80, 2)), border]).astype(np.float32)
    target = functools.partial(targets.gaussian_density, sigma=sigma)
    whole = target(dots, shape)
    reach = windows.gaussian_reach(target, 2)
    assert reach is not None
    for _ in range(40):
        first = rng.integers(0, (50, 60))
        last = first + rng.integers(1, 11, 2)
        box = tuple(slice(int(a), int(b)) for a, b in zip(first, last, strict=True))
        part = windows.density_part(target, dots, shape, box, reach)
        np.testing.assert_allclose(part, whole[box], rtol=0, atol=1e-6)
        raster = windows.raster_part(dots, shape, box)
        np.testing.assert_array_equal(raster, batches.rasterize_counts(dots, shape)[box])


def test_only_gaussians_with_one_sigma_are_computed_by_part():
    density = targets.gaussian_density
    per_dot = functools.partial(density, sigma=np.ones(3))
    assert windows.gaussian_reach(per_dot, 2) is None
    assert windows.gaussian_reach(targets.inverse_distance_map, 2) is None
    wide = functools.partial(density, sigma=2.0, truncate=3.0)
    np.testing.assert_array_equal(windows.gaussian_reach(wide, 3), [6, 6, 6])


def test_intensity_ranges_are_computed_once_and_whole_targets_are_cached_up_to_a_size(monkeypatch):
    calls = {"range": 0, "target": 0}
    real = windows.intensity_range

    def counted_range(opened, preprocessing):
        calls["range"] += 1
        return real(opened, preprocessing)

    def counted_target(dots, shape):
        calls["target"] += 1
        return np.ones(shape, np.float32)

    monkeypatch.setattr(windows, "intensity_range", counted_range)
    image = np.arange(64, dtype=np.uint8).reshape(8, 8, 1)
    samples = [Sample(f"s{i}", image, np.zeros((0, 2), np.float32)) for i in range(3)]
    reader = windows.WindowReader(
        Preprocessing(channels=1, normalise="minmax"), target=counted_target, cache_bytes=2 * 256
    )
    corner, side = np.array([2, 2]), np.array([4, 4])
    for i in (0, 1, 0, 2, 2, 0):
        reader.read(i, samples[i], corner, side)
    assert calls == {"range": 3, "target": 3}
    reader.read(1, samples[1], corner, side)  # least recently used
    assert calls == {"range": 3, "target": 4}
