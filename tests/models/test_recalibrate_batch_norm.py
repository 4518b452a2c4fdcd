"""Recalibrated batch norm, against the statistics of all images at once."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cellcount_jax.models.recalibrate_batch_norm import recalibrate_batch_norm


def _update(stats, batch):
    images, mask = batch
    norm = nn.BatchNorm(momentum=0.9, use_running_average=False, use_fast_variance=False)
    params = {"scale": jnp.ones(3), "bias": jnp.zeros(3)}
    _, new = norm.apply(
        {"params": params, "batch_stats": stats},
        images,
        mask=mask.astype(bool)[:, None, None, None],
        mutable="batch_stats",
    )
    return new["batch_stats"]


def test_ragged_batches_pool_to_the_statistics_of_the_set():
    rng = np.random.default_rng(0)
    images = (rng.normal(size=(7, 4, 4, 3)) * [1, 5, 0.1] + [0, 3, -20]).astype(np.float32)
    padded = np.concatenate([images, np.full((5, 4, 4, 3), 1e3, np.float32)])
    real = np.arange(12) < 7
    batches = [
        ((padded[i : i + 3], real[i : i + 3]), int(real[i : i + 3].sum())) for i in (0, 3, 6, 9)
    ]
    stats = {"mean": jnp.full(3, 9.0), "var": jnp.full(3, 9.0)}
    got = recalibrate_batch_norm(_update, stats, batches)
    assert jax.tree.structure(got) == jax.tree.structure(stats)
    np.testing.assert_allclose(got["mean"], images.mean((0, 1, 2)), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(got["var"], images.var((0, 1, 2)), rtol=1e-3)


def test_a_set_without_images_is_an_error():
    stats = {"mean": jnp.zeros(3), "var": jnp.ones(3)}
    with pytest.raises(ValueError, match="no image"):
        recalibrate_batch_norm(_update, stats, [])
