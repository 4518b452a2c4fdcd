"""Augmentations: every map of a row goes the same way, and nothing is lost."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cellcount_jax.data import augment


@pytest.mark.parametrize("space", [(6, 6), (3, 4, 4)])
def test_flips_and_turns_reach_every_symmetry_and_keep_maps_together(space):
    ndim = len(space)
    row = np.arange(np.prod(space), dtype=np.float32).reshape(space)
    rows = np.broadcast_to(row, (400, *space))
    maps = {"image": jnp.asarray(rows)[..., None], "target": jnp.asarray(rows)}
    out = augment.random_flips_and_turns(jax.random.key(0), maps, ndim=ndim)
    np.testing.assert_array_equal(out["image"][..., 0], out["target"])
    seen = {np.asarray(r).tobytes() for r in out["target"]}
    assert len(seen) == 2 ** (ndim + 1)  # flips per axis, and the swap of the last two
    np.testing.assert_allclose(
        np.sort(out["target"].reshape(400, -1)), np.sort(rows.reshape(400, -1))
    )


def test_images_that_are_not_square_are_only_flipped():
    maps = {"target": jnp.zeros((5, 4, 6))}
    out = augment.random_flips_and_turns(jax.random.key(0), maps, ndim=2)
    assert out["target"].shape == (5, 4, 6)


def test_crops_stay_inside_the_real_size_and_agree_between_maps():
    rows = jnp.broadcast_to(jnp.arange(80.0).reshape(8, 10), (200, 8, 10))
    sizes = jnp.broadcast_to(jnp.array([6, 7]), (200, 2))
    maps = {"image": rows[..., None], "dots": rows}
    out = augment.random_crop(jax.random.key(1), maps, sizes, (4, 4))
    np.testing.assert_array_equal(out["image"][..., 0], out["dots"])
    corners = {(int(v) // 10, int(v) % 10) for v in out["dots"][:, 0, 0]}
    assert corners == {(y, x) for y in range(3) for x in range(4)}


def test_brightness_keeps_the_mean_when_only_contrast_changes():
    image = jax.random.uniform(jax.random.key(0), (4, 5, 5, 1))
    out = augment.random_brightness(jax.random.key(1), image, ndim=2, contrast=0.5, offset=0.0)
    np.testing.assert_allclose(out.mean((1, 2, 3)), image.mean((1, 2, 3)), atol=1e-6)
    assert not np.allclose(out, image)
