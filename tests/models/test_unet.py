"""What the UNet's output sees of an image."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cellcount_jax.models.unet import UNet, halo

LENGTH = 192


@functools.cache
def averaging_unet(levels: int):
    """A jitted UNet whose every kernel is positive, so that nothing it sees cancels out."""
    network = UNet(channels=(1,) * levels)
    shapes = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 32, 32, 1)))

    def fill(path, leaf):
        if path[-1].key == "kernel":
            return jnp.full(leaf.shape, 1 / np.prod(leaf.shape[:-1]))
        return jnp.full(leaf.shape, float(path[-1].key in ("scale", "var")))

    variables = jax.tree_util.tree_map_with_path(fill, shapes)
    return jax.jit(functools.partial(network.apply, variables))


@pytest.mark.parametrize("levels", [1, 2, 3, 4])
@pytest.mark.parametrize("side", ["before", "behind"])
def test_halo_is_the_smallest_multiple_of_the_stride_that_covers_what_a_tile_sees(levels, side):
    stride = 2 ** (levels - 1)
    start = LENGTH // 2
    tile = slice(start, start + stride)

    def response(distance: int) -> float:
        """Of the tile, to all pixels at least this far from it on one side."""
        image = np.zeros((1, LENGTH, stride, 1), np.float32)
        if side == "before":
            image[:, : tile.start - distance + 1] = 1e6
        else:
            image[:, tile.stop + distance - 1 :] = 1e6
        return float(jnp.abs(averaging_unet(levels)(image)[:, tile]).max())

    assert response(halo(levels) + 1) == 0
    assert response(halo(levels) - stride + 1) > 0
