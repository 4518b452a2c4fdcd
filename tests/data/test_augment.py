"""Augmentations: all maps of a row change alike, in every direction and within the bounds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cellcount_jax.data import augment


@pytest.mark.parametrize("space", [(6, 6), (3, 4, 4)])
def test_flips_and_rotations_reach_every_symmetry_and_keep_maps_together(space):
    ndim = len(space)
    row = np.arange(np.prod(space), dtype=np.float32).reshape(space)
    rows = np.broadcast_to(row, (400, *space))
    maps = {"image": jnp.asarray(rows)[..., None], "target": jnp.asarray(rows)}
    out = augment.random_flips_and_rotations(jax.random.key(0), maps, ndim=ndim)
    np.testing.assert_array_equal(out["image"][..., 0], out["target"])
    seen = {np.asarray(r).tobytes() for r in out["target"]}
    assert len(seen) == 2 ** (ndim + 1)  # flips per axis, and the swap of the last two
    np.testing.assert_allclose(
        np.sort(out["target"].reshape(400, -1)), np.sort(rows.reshape(400, -1))
    )


def test_images_that_are_not_square_are_only_flipped():
    maps = {"target": jnp.zeros((5, 4, 6))}
    out = augment.random_flips_and_rotations(jax.random.key(0), maps, ndim=2)
    assert out["target"].shape == (5, 4, 6)


def test_crops_stay_inside_the_real_size_and_agree_between_maps():
    rows = jnp.broadcast_to(jnp.arange(80.0).reshape(8, 10), (200, 8, 10))
    sizes = jnp.broadcast_to(jnp.array([6, 7]), (200, 2))
    maps = {"image": rows[..., None], "dots": rows}
    out = augment.random_crop(jax.random.key(1), maps, sizes, (4, 4))
    np.testing.assert_array_equal(out["image"][..., 0], out["dots"])
    corners = {(int(v) // 10, int(v) % 10) for v in out["dots"][:, 0, 0]}
    assert corners == {(y, x) for y in range(3) for x in range(4)}


def test_mosaics_hold_a_quadrant_of_four_rows_each_in_its_corner():
    rows = jnp.arange(5.0)[:, None, None] * jnp.ones((5, 4, 6))
    maps = {"image": rows[..., None], "dots": rows}
    out = augment.random_mosaics(jax.random.key(0), maps, probability=1.0)
    np.testing.assert_array_equal(out["image"][..., 0], out["dots"])
    corners = out["dots"][:, ::3, ::5].reshape(5, 4)
    for row, found in enumerate(corners.astype(int).tolist()):
        assert found == [(row - i) % 5 for i in range(4)]
    quadrant = np.asarray(out["dots"])[2].reshape(2, 2, 2, 3).swapaxes(1, 2)
    assert all(np.unique(part).size == 1 for half in quadrant for part in half)


def test_a_share_of_rows_becomes_mosaics():
    rows = {"dots": jax.random.uniform(jax.random.key(1), (400, 2, 2))}
    for probability, share in ((0.0, 0.0), (0.25, 0.25)):
        out = augment.random_mosaics(jax.random.key(0), rows, probability=probability)
        changed = (out["dots"] != rows["dots"]).any(axis=(1, 2))
        assert abs(float(changed.mean()) - share) < 0.08


def changes(space, *, contrast: float, offset: float) -> tuple[np.ndarray, np.ndarray]:
    """Contrast factor and offset of 400 rows of noise; all else is checked here."""
    image = jax.random.uniform(jax.random.key(0), (400, *space, 2))
    out = augment.random_contrast_and_offset(
        jax.random.key(1), image, ndim=len(space), contrast=contrast, offset=offset
    )
    axes = tuple(range(1, len(space) + 1))
    mean, new_mean = image.mean(axes, keepdims=True), out.mean(axes, keepdims=True)
    factor = out.std(axes) / image.std(axes)
    np.testing.assert_allclose(factor[:, 0], factor[:, 1], rtol=1e-4)  # channels change alike
    scaled = (image - mean) * factor[:, :1].reshape(-1, *[1] * (len(space) + 1))
    np.testing.assert_allclose(out - new_mean, scaled, atol=1e-5)  # never inverted
    shift = (new_mean - mean).reshape(400, 2)
    np.testing.assert_allclose(shift[:, 0], shift[:, 1], atol=1e-5)
    return np.asarray(factor[:, 0]), np.asarray(shift[:, 0])


@pytest.mark.parametrize("space", [(8, 9), (3, 5, 6)])
def test_contrast_rises_and_falls_within_its_bounds_and_keeps_the_mean(space):
    factor, shift = changes(space, contrast=0.5, offset=0.0)
    np.testing.assert_allclose(shift, 0, atol=1e-6)
    assert 0.5 - 1e-3 <= factor.min() < 0.52
    assert 1.48 < factor.max() <= 1.5 + 1e-3
    assert factor.mean() == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("space", [(8, 9), (3, 5, 6)])
def test_offset_rises_and_falls_within_its_bounds_and_keeps_the_contrast(space):
    factor, shift = changes(space, contrast=0.0, offset=0.3)
    np.testing.assert_allclose(factor, 1, atol=1e-4)
    assert -0.3 - 1e-5 <= shift.min() < -0.28
    assert 0.28 < shift.max() <= 0.3 + 1e-5
    assert shift.mean() == pytest.approx(0.0, abs=0.03)


def test_contrast_and_offset_are_drawn_independently_for_each_row():
    factor, shift = changes((8, 9), contrast=0.5, offset=0.3)
    assert len(np.unique(factor)) == len(np.unique(shift)) == 400
    assert abs(np.corrcoef(factor, shift)[0, 1]) < 0.15


def test_no_jitter_changes_nothing():
    image = jax.random.normal(jax.random.key(0), (2, 8, 9, 3))
    same = augment.random_intensity(
        jax.random.key(1), image, ndim=2, jitter=augment.IntensityJitter()
    )
    np.testing.assert_array_equal(same, image)


@pytest.mark.parametrize("space", [(12, 12), (6, 8, 8)])
def test_gamma_keeps_the_ends_and_the_order_of_each_row(space):
    image = jax.random.normal(jax.random.key(0), (4, *space, 2))
    changed = augment.random_intensity(
        jax.random.key(1), image, ndim=len(space), jitter=augment.IntensityJitter(gamma=0.5)
    )
    for before, after in zip(np.asarray(image), np.asarray(changed), strict=True):
        assert after.min() == pytest.approx(before.min(), abs=1e-4)
        assert after.max() == pytest.approx(before.max(), abs=1e-4)
        order = np.argsort(before.ravel())
        assert np.all(np.diff(after.ravel()[order]) >= 0)
        assert not np.allclose(after, before, atol=1e-3)


def test_noise_and_blur_have_the_largest_size_that_was_asked_for():
    noise = augment.random_intensity(
        jax.random.key(1),
        jnp.zeros((8, 64, 64, 1)),
        ndim=2,
        jitter=augment.IntensityJitter(noise=0.4),
    )
    deviations = np.asarray(noise).std(axis=(1, 2, 3))
    assert deviations.max() < 0.41
    assert deviations.max() > 1.5 * deviations.min()
    point = jnp.zeros((1, 9, 9, 1)).at[0, 4, 4, 0].set(16.0)
    blurred = augment.random_intensity(
        jax.random.key(1), point, ndim=2, jitter=augment.IntensityJitter(blur=1.0)
    )[0, ..., 0]
    assert float(blurred.sum()) == pytest.approx(16.0)
    share = float(blurred[3, 3])  # of the corner of the binomial 1 2 1
    assert 0 < share <= 1
    assert float(blurred[3, 4]) == pytest.approx(2 * share, rel=1e-5)
    assert float(blurred[4, 4]) == pytest.approx(16 - 12 * share, rel=1e-5)


def test_colour_changes_each_channel_by_itself_and_grey_images_never():
    jitter = augment.IntensityJitter(colour=0.5)
    image = jax.random.normal(jax.random.key(0), (1, 16, 16, 1))
    np.testing.assert_array_equal(
        augment.random_intensity(jax.random.key(1), image, ndim=2, jitter=jitter), image
    )
    changed = augment.random_intensity(
        jax.random.key(1), jnp.repeat(image, 3, axis=-1), ndim=2, jitter=jitter
    )
    assert np.ptp(np.asarray(changed), axis=-1).min() > 0
