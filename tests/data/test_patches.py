"""Patches: every dot in exactly one, published rules, tiles that make up the image."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellcount_jax.data.patches import cut
from cellcount_jax.data.resize import resize_sample
from cellcount_jax.data.sample import Sample
from configs import dcl_adi, dcl_dcc, dcl_mbm


def sample_of(height: int, width: int, *, n: int = 30, seed: int = 0, channels: int = 3) -> Sample:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (height, width, channels)).astype(np.uint8)
    dots = rng.uniform(-0.5, [height - 0.5, width - 0.5], (n, 2)).astype(np.float32)
    return Sample("p", image, dots, group="slide", spacing=(0.5, 0.5))


def rule_of(config) -> dict:
    return config.get_config().data.patches.to_dict()


def test_mbm_rule():
    patches = cut(sample_of(600, 600), **rule_of(dcl_mbm))
    assert [p.name for p in patches] == ["p@0-0", "p@0-1", "p@1-0", "p@1-1"]
    assert {p.group for p in patches} == {"p"}
    assert {p.image.shape for p in patches} == {(256, 256, 3)}
    assert sum(p.count for p in patches) == 30
    assert patches[0].spacing == pytest.approx((0.5 * 300 / 256,) * 2)


@pytest.mark.parametrize(
    ("height", "width", "side"), [(306, 322, 256), (798, 788, 768), (384, 384, 512)]
)
def test_dcc_rule(height, width, side):
    patches = cut(sample_of(height, width), **rule_of(dcl_dcc))
    assert len(patches) == (side // 256) ** 2
    assert {p.image.shape for p in patches} == {(256, 256, 3)}
    assert sum(p.count for p in patches) == 30


def test_padding_is_below_and_on_the_right():
    sample = sample_of(10, 16)
    (padded,) = cut(sample, pad_square=True)
    np.testing.assert_array_equal(padded.image[:10], sample.image)
    assert not padded.image[10:].any()
    np.testing.assert_array_equal(padded.dots, sample.dots)


def test_a_whole_image_keeps_its_name():
    (patch,) = cut(sample_of(150, 150), **rule_of(dcl_adi))
    assert (patch.name, patch.group, patch.image.shape) == ("p", "slide", (256, 256, 3))
    (patch,) = cut(sample_of(256, 256), tile=256)
    assert patch.name == "p"


def test_tiles_put_together_are_the_image():
    sample = sample_of(12, 20)
    sample = Sample("p", sample.image, np.argwhere(sample.image[..., 0] > 128).astype(np.float32))
    tiles = cut(sample, tile=4)
    rows = [np.concatenate([t.image for t in tiles[r * 5 : r * 5 + 5]], axis=1) for r in range(3)]
    np.testing.assert_array_equal(np.concatenate(rows), sample.image)
    for tile in tiles:
        np.testing.assert_array_equal(tile.dots, np.argwhere(tile.image[..., 0] > 128))


def test_a_pixel_reaches_half_a_step_beyond_its_centre():
    dots = np.array([[11.4, 0], [11.6, 0], [-0.5, 23.4]], np.float32)
    tiles = cut(Sample("p", np.zeros((24, 24, 1), np.uint8), dots), tile=12)
    found = {t.name: t.dots.tolist() for t in tiles if t.count}
    assert list(found) == ["p@0-0", "p@0-1", "p@1-0"]
    np.testing.assert_allclose(found["p@1-0"], [[-0.4, 0]], atol=1e-5)
    np.testing.assert_allclose(found["p@0-1"], [[-0.5, 11.4]], atol=1e-5)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.floats(-0.5, 23.49), st.floats(-0.5, 35.49)), max_size=12),
    st.sampled_from([{"tile": 12}, {"tile": 6, "resize": 5}, {"resize_to_multiple": 16}]),
)
def test_each_dot_is_in_exactly_one_patch(points, rule):
    dots = np.array(points, np.float32).reshape(-1, 2)
    patches = cut(Sample("p", np.zeros((24, 36, 1), np.uint8), dots), **rule)
    assert sum(p.count for p in patches) == len(points)
    for patch in patches:
        limit = np.array(patch.image.shape[:2])
        assert (patch.dots >= -0.5 - 1e-4).all()
        assert (patch.dots <= limit - 0.5 + 1e-4).all()


def test_labels_and_unlabelled():
    labels = np.zeros((8, 8), np.uint16)
    labels[2:4, 4:6] = 9
    sample = Sample("p", np.zeros((8, 8, 1), np.uint8), None, labels=labels)
    doubled = resize_sample(sample, (16, 16))
    assert doubled.dots is None
    assert doubled.labels is not None
    assert (doubled.labels[4:8, 8:12] == 9).all()
    assert (doubled.labels > 0).sum() == 16
    tiles = cut(sample, tile=4)
    assert [t.labels.max() for t in tiles] == [0, 9, 0, 0]
    assert [t.dots for t in tiles] == [None] * 4


def test_what_cannot_be_cut():
    with pytest.raises(ValueError, match=r"p: 10 x 16 cannot be cut into tiles of 8"):
        cut(sample_of(10, 16), tile=8)
    with pytest.raises(ValueError, match="not volumes"):
        cut(Sample("p", np.zeros((4, 4, 4, 1), np.uint8), None), tile=2)
