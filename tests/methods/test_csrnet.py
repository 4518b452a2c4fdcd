"""CSRNet as a stage: what its loss compares, where it starts, what it refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from cellcount_jax.data import targets
from cellcount_jax.methods import build_stages, csrnet
from cellcount_jax.methods.base import Variables
from cellcount_jax.models.vgg import conv_channels, torch_indices
from configs import csrnet_vgg
from tests.methods.step_input import step_input

pytestmark = pytest.mark.usefixtures("quick_compilation")


def tiny_config(**model) -> ConfigDict:
    config = csrnet_vgg.get_config("tiny")
    config.model.update(model)
    return config


def batch(rows: int = 2) -> dict:
    dots = np.array([[8.0, 8.0], [20.0, 30.0], [21.0, 9.0]], np.float32)
    target = targets.gaussian_density(dots, (32, 40), sigma=4.0)
    return {
        "labelled": {
            "image": jax.random.normal(jax.random.key(0), (rows, 32, 40, 3)),
            "target": jnp.tile(target, (rows, 1, 1)),
            "count": jnp.full(rows, 3.0),
            "mask": jnp.ones(rows),
            "index": jnp.arange(rows),
        }
    }


def loss(stage, variables: Variables, rows: dict):
    return jax.jit(stage.loss)(variables.trained, step_input(variables, rows))


@pytest.fixture(scope="module")
def made():
    stage = build_stages(tiny_config(target_scale=10.0))[0]
    return stage, stage.init(jax.random.key(1), batch(), {})


def test_it_starts_at_the_mean_count(made):
    stage, variables = made
    maps = stage.predict(variables, batch()["labelled"]["image"])
    assert maps["density"].shape == (2, 4, 5)
    np.testing.assert_allclose(maps["density"].sum((1, 2)), 3.0, rtol=0.2)


def test_the_loss_is_the_squared_error_on_summed_blocks():
    stage = build_stages(tiny_config(batch_norm=False, target_scale=10.0))[0]
    rows = batch()
    variables = stage.init(jax.random.key(1), rows, {})
    predicted = np.asarray(stage.predict(variables, rows["labelled"]["image"])["density"])
    blocks = np.stack([targets.sum_pool(np.asarray(t), 8) for t in rows["labelled"]["target"]])
    value, (_, metrics) = loss(stage, variables, rows)
    np.testing.assert_allclose(value, 100 * ((predicted - blocks) ** 2).mean(), rtol=1e-5)
    assert float(metrics["loss"]) == float(value)
    assert abs(blocks.sum() - 6.0) < 1e-4


def test_padding_rows_change_nothing(made):
    stage, variables = made
    rows = batch()["labelled"]
    padded = {name: jnp.concatenate([value, 7 + value]) for name, value in rows.items()}
    padded["mask"] = jnp.array([1.0, 1.0, 0.0, 0.0])
    a, (state_a, _) = loss(stage, variables, {"labelled": rows})
    b, (state_b, _) = loss(stage, variables, {"labelled": padded})
    np.testing.assert_allclose(a, b, rtol=1e-4)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-5), state_a, state_b)


def test_imported_weights_stand_in_front(tmp_path):
    width = tiny_config().model.width
    rng = np.random.default_rng(0)
    arrays, n_in = {}, 3
    for name, n_out in conv_channels(16, width, 10).items():
        i = torch_indices(16, batch_norm=False)[name]
        arrays[f"features.{i}.weight"] = rng.normal(size=(n_out, n_in, 3, 3)).astype(np.float32)
        arrays[f"features.{i}.bias"] = rng.normal(size=n_out).astype(np.float32)
        n_in = n_out
    np.savez(tmp_path / "vgg16.npz", **arrays)
    config = tiny_config(pretrained=str(tmp_path / "vgg16.npz"), batch_norm=False)
    variables = build_stages(config)[0].init(jax.random.key(0), batch(), {})
    kernel = variables.trained["frontend"]["conv1_1"]["kernel"]
    np.testing.assert_array_equal(kernel, arrays["features.0.weight"].transpose(2, 3, 1, 0))
    assert len(variables.trained["frontend"]) == 10


def test_adaptive_gaussians_keep_the_count():
    dots = np.array([[3.0, 3.0], [10.0, 12.0], [30.0, 30.0]], np.float32)
    fixed, adaptive = (csrnet.target_map(4.0, adaptive=a)(dots, (40, 40)) for a in (False, True))
    np.testing.assert_allclose([fixed.sum(), adaptive.sum()], 3.0, rtol=1e-4)
    assert np.abs(fixed - adaptive).max() > 1e-3


def test_blocks_are_summed_alike_on_host_and_device():
    maps = np.random.default_rng(0).random((2, 16, 24)).astype(np.float32)
    expected = np.stack([targets.sum_pool(m, 8) for m in maps])
    np.testing.assert_allclose(targets.sum_pool(maps, csrnet.BLOCKS), expected, rtol=1e-5)
    on_device = jax.jit(lambda x: targets.sum_pool(x, csrnet.BLOCKS))(maps)
    assert on_device.dtype == jnp.float32
    np.testing.assert_allclose(on_device, expected, rtol=1e-5)
    counts = np.full((1, 8, 8), 2, np.uint8)
    assert targets.sum_pool(counts, csrnet.BLOCKS).dtype == np.uint8
    assert targets.sum_pool(counts, csrnet.BLOCKS).item() == 128


def test_an_image_smaller_than_the_stride_is_told_in_one_line():
    target = build_stages(tiny_config())[0].target
    with pytest.raises(ValueError, match=r"^an image of 7 x 30 pixels is smaller.*$"):
        target(np.zeros((0, 2), np.float32), (7, 30))
