"""Targets compared with reference pairs, slow loops in this file, and their defining properties."""

import tracemalloc

import numpy as np
import pytest
from scipy import ndimage

from cellcount_jax.data import targets

DENSITIES = ("int2d", "int2d_small", "float2d", "empty2d", "int3d", "float3d", "empty3d")
DISTANCES = ("int2d", "far2d", "int3d", "anisotropic3d", "far3d", "empty2d", "empty3d")


def random_dots(n, shape, seed=0):
    """Float dots anywhere in the image, the outer halves of border pixels included."""
    rng = np.random.default_rng(seed)
    return (rng.uniform(0, 1, (n, len(shape))) * shape - 0.5).astype(np.float32)


def slow_density(dots, shape, sigmas, truncate=4.0):
    """One dot at a time; sigmas [N, ndim]."""
    density = np.zeros(shape)
    axes = np.meshgrid(*map(np.arange, shape), indexing="ij")
    for dot, sigma in zip(np.asarray(dots, float), sigmas, strict=True):
        exponent, inside = 0.0, True
        for axis, at, s in zip(axes, dot, sigma, strict=True):
            exponent = exponent + (axis - at) ** 2 / (2 * s**2)
            inside = inside & (abs(axis - at) <= int(truncate * s + 0.5))
        kernel = np.exp(-exponent) * inside
        density += kernel / kernel.sum()
    return density


def slow_distance(dots, shape, weights):
    pixels = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    offsets = (pixels[..., None, :] - np.asarray(dots, float)) * weights
    return np.sqrt((offsets**2).sum(axis=-1)).min(axis=-1)


@pytest.mark.parametrize("case", DENSITIES)
def test_density_reference(golden, case):
    arrays = {
        k.partition("__")[2]: v
        for k, v in golden("gaussian_density").items()
        if k.startswith(f"{case}__")
    }
    found = targets.gaussian_density(
        arrays["dots"], tuple(arrays["shape"]), sigma=float(arrays["sigma"])
    )
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, arrays["expected_density"], atol=1e-6)
    assert abs(found.sum(dtype=float) - len(arrays["dots"])) < 1e-3


@pytest.mark.parametrize("shape", [(31, 24), (9, 17, 12)])
def test_density_equals_a_loop_over_dots(shape):
    dots = random_dots(12, shape)
    per_axis = tuple(np.linspace(1.0, 2.0, len(shape)))
    per_dot = np.random.default_rng(1).uniform(0.6, 9.0, len(dots))
    for sigma, sigmas in (
        (1.3, np.full((12, len(shape)), 1.3)),
        (per_axis, np.tile(per_axis, (12, 1))),
        (per_dot, np.tile(per_dot[:, None], len(shape))),
    ):
        found = targets.gaussian_density(dots, shape, sigma=sigma)
        np.testing.assert_allclose(found, slow_density(dots, shape, sigmas), atol=1e-6)


def test_density_truncate():
    dots = [[10.0, 10.0]]
    found = targets.gaussian_density(dots, (21, 21), sigma=2.0, truncate=1.0)
    assert (np.argwhere(found > 0).min(), np.argwhere(found > 0).max()) == (8, 12)
    np.testing.assert_allclose(found, slow_density(dots, (21, 21), [[2, 2]], 1.0), atol=1e-7)


def test_density_chunks_change_nothing(monkeypatch):
    dots, sigmas = random_dots(40, (30, 30)), np.linspace(0.5, 6, 40)
    whole = targets.gaussian_density(dots, (30, 30), sigma=sigmas)
    monkeypatch.setattr(targets, "CHUNK_SIZE", 500)
    np.testing.assert_allclose(
        targets.gaussian_density(dots, (30, 30), sigma=sigmas), whole, atol=1e-6
    )


@pytest.mark.parametrize("sigma", [0.0, 0.01, 0.1, 0.3, 50.0])
def test_density_keeps_every_dot(sigma):
    dots = np.array([[-0.5, -0.5], [9.5, 7.5], [3.5, 4.2], [3.5, 4.2], [0, 7]])
    found = targets.gaussian_density(dots, (10, 8), sigma=sigma)
    assert np.isfinite(found).all()
    assert found.sum() == pytest.approx(5, abs=1e-5)


def test_density_of_two_dots_with_two_sigmas_is_per_dot_for_an_array():
    dots = np.array([[5.0, 5.0], [14.0, 14.0]])
    per_dot = targets.gaussian_density(dots, (20, 20), sigma=np.array([1.0, 2.0]))
    per_axis = targets.gaussian_density(dots, (20, 20), sigma=(1.0, 2.0))
    assert per_dot[5, 5] > 3 * per_dot[14, 14]
    assert per_axis[5, 5] == pytest.approx(per_axis[14, 14], rel=1e-6)


@pytest.mark.parametrize("make", [
    lambda dots: targets.gaussian_density(dots, (52, 70), sigma=2.0),
    lambda dots: targets.inverse_distance_map(dots, (52, 70)),
])  # fmt: skip
@pytest.mark.parametrize("outside", [(61.5, 8.0), (8.0, -0.6), (np.nan, 3.0)])
def test_a_dot_outside_is_an_error_with_its_position(make, outside):
    y, x = outside
    with pytest.raises(ValueError, match=rf"dot \(y={y:g}, x={x:g}\).*outside.*y 52, x 70.*1 of 2"):
        make([(1.0, 1.0), outside])


@pytest.mark.parametrize("sigma", [-1.0, np.nan, (1.0, 1.0, 1.0), np.ones(3), [1.0]])
def test_sigma_that_does_not_fit(sigma):
    with pytest.raises(ValueError, match="sigma"):
        targets.gaussian_density([[1.0, 1.0]] * 2, (9, 9), sigma=sigma)


def test_dots_that_do_not_fit():
    with pytest.raises(ValueError, match="do not fit"):
        targets.gaussian_density([[1.0, 1.0]], (9, 9, 9), sigma=1.0)


def test_adaptive_sigma():
    dots = np.array([[0.0, 0], [0, 3], [4, 0], [0, 10], [30, 40]])
    found = targets.adaptive_sigma(dots)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[0], 0.3 * (3 + 4 + 10) / 3, rtol=1e-6)
    np.testing.assert_allclose(targets.adaptive_sigma(dots, beta=1, k=1)[1], 3, rtol=1e-6)
    # With fewer than k others all of them count; a duplicate is a neighbour at distance 0.
    np.testing.assert_allclose(targets.adaptive_sigma(dots[:2]), [0.9, 0.9], rtol=1e-6)
    np.testing.assert_allclose(
        targets.adaptive_sigma([[0, 0], [0, 0], [0, 6]], beta=1), [3, 3, 6], rtol=1e-6
    )
    assert targets.adaptive_sigma(np.zeros((0, 3))).shape == (0,)
    assert targets.adaptive_sigma([[5.0, 5.0]], shape=(40, 80)) == pytest.approx([15.0])
    with pytest.raises(ValueError, match="shape"):
        targets.adaptive_sigma([[5.0, 5.0]])
    density = targets.gaussian_density(dots, (41, 41), sigma=found)
    assert density.sum() == pytest.approx(5, abs=1e-4)


@pytest.mark.parametrize("case", DISTANCES)
def test_inverse_distance_reference(golden, case):
    arrays = golden("inverse_distance_map")
    dots, shape = arrays[f"{case}__dots"], tuple(arrays[f"{case}__shape"])
    spacing = tuple(arrays[f"{case}__spacing"]) if f"{case}__spacing" in arrays else None
    for name, cutoff in (("cutoff0", 0.0), ("cutoff001", 0.01)):
        found = targets.inverse_distance_map(dots, shape, spacing=spacing, cutoff=cutoff)
        np.testing.assert_allclose(found, arrays[f"{case}__expected_map_{name}"], atol=1e-6)
    if len(dots):
        expected = arrays[f"{case}__expected_distance"]
        found = targets.distance_map(dots, shape, spacing=spacing)
        assert abs(found - expected).max() <= 1e-5 * max(1, expected.max())


@pytest.mark.parametrize("case", ["fidtm", "fidtm_edge", "fidtm_duplicate"])
def test_inverse_distance_is_the_plain_definition(golden, case):
    arrays = golden("inverse_distance_map")
    found = targets.inverse_distance_map(
        arrays[f"{case}__dots"], tuple(arrays[f"{case}__shape"]), cutoff=0.01
    )
    np.testing.assert_allclose(found, arrays[f"{case}__expected_map_cutoff001"], atol=1e-6)


def test_inverse_distance_values():
    row = targets.inverse_distance_map([[0.0, 0.0]], (1, 31))[0]
    known = {0: 1.0, 1: 0.5, 2: 0.366, 3: 0.291, 5: 0.203, 10: 0.101, 20: 0.031, 30: 0.010}
    for at, value in known.items():
        assert row[at] == pytest.approx(value, abs=6e-4)


@pytest.mark.parametrize(
    ("n", "shape", "spacing"),
    [
        (1, (5, 1), None),
        (7, (61, 83), None),
        (300, (40, 33), (2.0, 1.0)),
        (900, (24, 31), None),
        (40, (13, 37, 29), (3.1, 0.7, 0.8)),
        (400, (17, 20, 23), None),
    ],
)
def test_distance_is_exact_for_dots_between_pixels(n, shape, spacing):
    dots = random_dots(n, shape)
    weights = np.ones(len(shape)) if spacing is None else np.array(spacing) / spacing[-1]
    found = targets.distance_map(dots, shape, spacing=spacing)
    np.testing.assert_allclose(found, slow_distance(dots, shape, weights), rtol=3e-7, atol=1e-7)


@pytest.mark.parametrize("arrangement", ["corner", "circle", "duplicates", "lattice"])
def test_distance_is_exact_for_difficult_arrangements(arrangement):
    rng, shape = np.random.default_rng(0), (70, 64)
    angle = rng.uniform(0, 2 * np.pi, 400)
    dots = {
        "corner": rng.uniform(0, 6, (400, 2)),
        "circle": 31.5 + 31 * np.stack([np.sin(angle), np.cos(angle)], axis=-1),
        "duplicates": np.repeat(rng.uniform(0, 60, (3, 2)), 200, axis=0),
        "lattice": np.stack(np.meshgrid(np.arange(0, 64, 4), np.arange(0, 64, 4)), -1).reshape(
            -1, 2
        ),
    }[arrangement]
    found = targets.distance_map(dots, shape)
    np.testing.assert_allclose(found, slow_distance(dots, shape, np.ones(2)), rtol=3e-7, atol=1e-7)


def test_distance_agrees_with_scipy():
    mask = np.ones((50, 60), bool)
    dots = np.random.default_rng(0).integers(0, 50, (25, 2))
    mask[tuple(dots.T)] = False
    found = targets.distance_map(dots, mask.shape, spacing=(3.0, 1.5))
    expected = ndimage.distance_transform_edt(mask, sampling=(2.0, 1.0))
    np.testing.assert_allclose(found, expected, rtol=3e-7)


def test_no_dots():
    assert not targets.inverse_distance_map(np.zeros((0, 2)), (5, 6)).any()
    assert not targets.inverse_distance_map([], (5, 6, 7), cutoff=0.01).any()
    assert np.isinf(targets.distance_map([], (5, 6))).all()


@pytest.mark.parametrize("spacing", [(1.0,), (1.0, 0.0), (1.0, np.nan), (1.0, 1.0, 1.0)])
def test_spacing_that_does_not_fit(spacing):
    with pytest.raises(ValueError, match="spacing"):
        targets.inverse_distance_map([[1.0, 1.0]], (5, 6), spacing=spacing)


def test_sum_pool_reference(golden):
    arrays = golden("gaussian_density")
    for density, expected in zip(
        arrays["sum_pool__map"], arrays["sum_pool__expected"], strict=True
    ):
        found = targets.sum_pool(density[..., 0], int(arrays["sum_pool__factor"]))
        np.testing.assert_allclose(found, expected[..., 0], atol=1e-6)
        np.testing.assert_allclose(targets.sum_pool(density, (8, 8, 1)), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "stride"), [((13, 22), 8), ((5, 9, 11), 4), ((5, 9, 11), (1, 2, 4))]
)
def test_sum_pool_keeps_the_mass_of_partial_blocks(shape, stride):
    density = np.random.default_rng(0).integers(0, 9, shape).astype(np.float32)
    pooled = targets.sum_pool(density, stride)
    strides = np.broadcast_to(stride, len(shape))
    assert pooled.shape == tuple(-(-n // s) for n, s in zip(shape, strides, strict=True))
    assert pooled.dtype == density.dtype
    assert pooled.sum() == density.sum()
    corner = tuple(slice((n - 1) // s * s, None) for n, s in zip(shape, strides, strict=True))
    assert pooled[(-1,) * len(shape)] == density[corner].sum()


def test_sum_pool_rejects_strides_that_do_not_fit():
    for stride in (0, (2,), (2, 2, 2)):
        with pytest.raises(ValueError, match="stride"):
            targets.sum_pool(np.ones((4, 4)), stride)


@pytest.mark.parametrize("shape", [(1024, 1024), (32, 256, 256)])
def test_memory_does_not_grow_with_the_number_of_dots_and_kernel_sizes(shape):
    dots = random_dots(2000, shape)
    clustered = random_dots(2000, [side // 8 for side in shape])
    for make in (
        lambda: targets.gaussian_density(dots, shape, sigma=[2.0, 20.0, 20.0][-len(shape) :]),
        lambda: targets.gaussian_density(dots, shape, sigma=targets.adaptive_sigma(dots)),
        lambda: targets.inverse_distance_map(dots, shape),
        lambda: targets.inverse_distance_map(clustered, shape),
    ):
        tracemalloc.start()
        make()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 100 * 2**20  # all kernels or all distances at once would take gigabytes
