"""Windows cover an image once, and their owned parts make up the map of the whole."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from cellcount_jax.inference import tiling


@pytest.mark.parametrize("size", [64, 72, 128, 200, 1000])
@pytest.mark.parametrize(("halo", "stride"), [(0, 8), (16, 8), (24, 4)])
@pytest.mark.parametrize("offset", [0, 8, 24])
def test_owned_parts_follow_each_other_and_keep_their_halo(size, halo, stride, offset):
    found = tiling.spans(size, 64, halo=halo, stride=stride, offset=offset)
    assert found[0].own_start == 0
    assert found[-1].own_stop == size
    for left, right in itertools.pairwise(found):
        assert left.own_stop == right.own_start
        assert left.start + 64 - left.own_stop >= halo
        assert right.own_start - right.start >= halo
    assert all(s.start % stride == 0 and s.start + 64 <= size for s in found)


def test_a_local_filter_gives_the_same_map_in_windows():
    image = np.random.default_rng(0).random((150, 90)).astype(np.float32)
    shape = tiling.padded_shape(image.shape, 4)
    padded = np.pad(image, [(0, p - n) for p, n in zip(shape, image.shape, strict=True)])
    whole = np.full(image.shape, np.nan, np.float32)

    def local(x):
        return ndimage.uniform_filter(x, 9, mode="constant")

    for window in tiling.windows(shape, (48, 48), halo=4, stride=4):
        box, values, size = tiling.owned(local(padded[window.read]), window, image.shape)
        assert size == image.shape
        assert np.isnan(whole[box]).all()
        whole[box] = values
    np.testing.assert_allclose(whole, local(padded)[:150, :90], atol=1e-6)


def test_maps_of_a_stride_belong_to_their_windows():
    windows = tiling.windows((64, 64), (32, 32), halo=0, stride=8)
    parts = [tiling.owned(np.zeros((8, 8)), window, (62, 30)) for window in windows]
    assert [size for _, _, size in parts] == [(16, 8)] * 4
    assert [values.shape for _, values, _ in parts] == [(8, 8), (8, 0), (8, 8), (8, 0)]
    assert parts[2][0] == (slice(8, 16), slice(0, 8))


def test_impossible_windows_are_refused():
    with pytest.raises(ValueError, match="stride"):
        tiling.spans(100, 64, halo=0, stride=8)
    with pytest.raises(ValueError, match="offset 3"):
        tiling.spans(128, 64, halo=0, stride=8, offset=3)
    with pytest.raises(ValueError, match="no room"):
        tiling.spans(128, 32, halo=16, stride=8)


@given(
    st.sampled_from([2, 3]).flatmap(
        lambda n: st.tuples(*[st.integers(1, 5000 if n == 2 else 600)] * n)
    ),
    st.sampled_from([1, 8, 16]),
    st.integers(0, 9),
    st.sampled_from([None, 64, 100, 2048]),
)
@settings(max_examples=100, deadline=None)
def test_windows_fit_any_image_and_their_shapes_are_few(shape, stride, halos, max_window):
    halo = halos * stride
    padded = tiling.padded_shape(shape, stride)
    assert all(p >= n and p % stride == 0 for p, n in zip(padded, shape, strict=True))
    window = tiling.choose_window(padded, halo=halo, stride=stride, max_window=max_window)
    top = max_window or tiling.MAX_WINDOW[len(shape)]
    known = {*tiling.sides(tiling.MAX_WINDOW[len(shape)], stride)}
    known |= {*tiling.sides(top, stride, steps=8)}
    least = -(-(2 * halo + stride) // stride) * stride
    assert all(w in known or w <= least for w in window)
    assert all(w <= max(top + stride, least) for w in window)
    for n, w in zip(padded, window, strict=True):
        found = tiling.spans(n, w, halo=halo, stride=stride)
        assert found[-1].own_stop == n


def test_few_shapes_serve_all_images_and_little_is_computed_twice():
    assert len(tiling.sides(1024, 8)) < 25
    assert tiling.padded_shape((256, 250), 8) == (256, 256)
    for side in (2048, 5000, 20_000):
        padded = tiling.padded_shape((side, side), 8)
        window = tiling.choose_window(padded, halo=56, stride=8)
        n = len(tiling.windows(padded, window, halo=56, stride=8))
        assert n * np.prod(window) < 1.36 * side**2
        window = tiling.choose_window(padded, halo=56, stride=8, max_window=2048)
        n = len(tiling.windows(padded, window, halo=56, stride=8))
        assert n * np.prod(window) < 1.28 * side**2
