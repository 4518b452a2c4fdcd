"""Baselines on images whose counts are known, and on the VGG set."""

import numpy as np
import pytest
from PIL import Image

from cellcount_jax.evaluation import baselines
from cellcount_jax.evaluation.metrics import count_errors


def make_images(n, seed, dtype=np.uint8, top=200):
    """Dark images with as many bright pixels as the count says."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, 60, n)
    images = np.full((n, 12, 12, 3), top // 10, dtype)
    for image, count in zip(images, counts, strict=True):
        image.reshape(-1, 3)[rng.permutation(144)[:count]] = top
    return list(images), counts.astype(float)


def test_mean():
    np.testing.assert_array_equal(baselines.baseline_mean([1, 2, 6], 4), [3.0] * 4)


@pytest.mark.parametrize(("dtype", "top"), [(np.uint8, 200), (np.uint16, 900), (np.float32, 3)])
@pytest.mark.parametrize("name", ["baseline_intensity", "baseline_histogram"])
def test_images_whose_intensity_determines_the_count(name, dtype, top):
    train, counts = make_images(30, 0, dtype, top)
    test, expected = make_images(10, 1, dtype, top)
    found = getattr(baselines, name)(train, counts, test)
    np.testing.assert_allclose(found, expected, atol=0.1)


@pytest.mark.parametrize("name", ["baseline_intensity", "baseline_histogram"])
def test_constant_images_give_the_mean_count(name):
    black = [np.zeros((4, 4, 1), np.uint8)] * 3
    found = getattr(baselines, name)(black, [1.0, 2.0, 6.0], black[:2])
    np.testing.assert_allclose(found, [3.0, 3.0])
    one = getattr(baselines, name)(black[:1], [5.0], black[:2])
    np.testing.assert_allclose(one, [5.0, 5.0])


def test_ridge_penalty_is_chosen_by_leaving_one_out():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(20, 16))
    features -= features.mean(axis=0)
    counts = features[:, 0] * 5 + rng.normal(size=20) * 4

    def left_out(strength):
        errors = []
        for i in range(20):
            rest = np.delete(np.arange(20), i)
            # The intercept is an unpenalised column of ones.
            x = np.concatenate([np.ones((19, 1)), features[rest]], axis=1)
            penalty = strength * np.diag([0.0, *[1.0] * 16])
            weights = np.linalg.solve(x.T @ x + penalty, x.T @ counts[rest])
            errors.append(counts[i] - weights[0] - features[i] @ weights[1:])
        return np.square(errors).sum()

    chosen = min(baselines.RIDGE_PENALTIES, key=left_out)
    slope = np.linalg.solve(features.T @ features + chosen * np.eye(16), features.T @ counts)
    found = baselines.ridge(features, counts, features)
    np.testing.assert_allclose(found, counts.mean() + features @ slope, rtol=1e-6)


def test_vgg(raw_dir):
    folder = raw_dir / "vgg_cells"
    if not folder.is_dir():
        pytest.skip(f"{folder} is missing")
    images = [np.asarray(Image.open(p).convert("RGB")) for p in sorted(folder.glob("*cell.png"))]
    dots = [np.asarray(Image.open(p).convert("RGB")) for p in sorted(folder.glob("*dots.png"))]
    counts = np.array([(d[..., 0] == 255).sum() for d in dots], float)
    order = np.random.default_rng(0).permutation(200)
    train, test = ([images[i] for i in part] for part in (order[:100], order[100:]))
    known, true = counts[order[:100]], counts[order[100:]]
    for predicted, published, tolerance in (
        (baselines.baseline_mean(known, 100), 49, 6),
        (baselines.baseline_intensity(train, known, test), 6.7, 1),
        (baselines.baseline_histogram(train, known, test), 4.6, 0.8),
    ):
        assert count_errors(predicted, true)["mae"] == pytest.approx(published, abs=tolerance)
