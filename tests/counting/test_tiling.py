"""Windows cover a picture once, and stitched maps equal the map of the whole."""

import itertools

import numpy as np
import pytest
from scipy import ndimage

from cellcount_jax.counting import tiling


@pytest.mark.parametrize("size", [64, 72, 128, 200, 1000])
@pytest.mark.parametrize(("halo", "stride"), [(0, 8), (16, 8), (24, 4)])
def test_owned_parts_follow_each_other_and_keep_their_halo(size, halo, stride):
    found = tiling.spans(size, 64, halo=halo, stride=stride)
    assert found[0].own_start == 0
    assert found[-1].own_stop == size
    for left, right in itertools.pairwise(found):
        assert left.own_stop == right.own_start
        assert left.start + 64 - left.own_stop >= halo
        assert right.own_start - right.start >= halo
    assert all(s.start % stride == 0 and s.start + 64 <= size for s in found)


def test_a_local_filter_gives_the_same_map_in_windows():
    image = np.random.default_rng(0).random((150, 90, 1)).astype(np.float32)
    shape = tiling.padded_shape(image.shape[:2], (48, 48), 4)
    padded = tiling.pad_to(image, shape)
    whole = np.zeros(shape, np.float32)

    def local(x):
        return ndimage.uniform_filter(x[..., 0], 9, mode="constant")

    for window in tiling.windows(shape, (48, 48), halo=4, stride=4):
        tiling.place(whole, local(padded[window.read]), window, stride=1)
    np.testing.assert_allclose(whole, local(padded), atol=1e-6)


def test_maps_of_a_stride_are_placed_at_their_cells():
    whole = np.zeros((16, 16))
    for i, window in enumerate(tiling.windows((64, 64), (32, 32), halo=0, stride=8)):
        tiling.place(whole, np.full((8, 8), i + 1.0), window, stride=4)
    assert (whole > 0).all()
    assert whole[0, 0] == 1
    assert whole[-1, -1] == 4


def test_impossible_windows_are_refused():
    with pytest.raises(ValueError, match="stride"):
        tiling.spans(100, 64, halo=0, stride=8)
    with pytest.raises(ValueError, match="no room"):
        tiling.spans(128, 32, halo=16, stride=8)
