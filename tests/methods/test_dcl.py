"""DCL: what the counter promises, what the localizer leaves alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from cellcount_jax.methods import build_stages
from cellcount_jax.methods.base import Stage, Variables, read_count
from cellcount_jax.methods.dcl import Counter
from configs import dcl_vgg


def tiny_config(**model) -> ConfigDict:
    config = dcl_vgg.get_config("tiny")
    config.model.update(model)
    return config


def batch(rows: int = 2, side: int = 32) -> dict:
    key = jax.random.key(0)
    return {
        "labelled": {
            "image": jax.random.normal(key, (rows, side, side, 3)),
            "target": jnp.zeros((rows, side, side)).at[:, 8, 8].set(1.0),
            "count": jnp.full(rows, 12.0),
            "mask": jnp.ones(rows),
            "index": jnp.arange(rows),
        }
    }


@pytest.fixture(scope="module")
def trained() -> dict[str, tuple[Stage, Variables]]:
    found: dict[str, tuple[Stage, Variables]] = {}
    for stage in build_stages(tiny_config()):
        previous = {name: variables for name, (_, variables) in found.items()}
        found[stage.name] = (stage, stage.init(jax.random.key(1), batch(), previous))
    return found


def test_full_counter_has_the_published_convolutions_and_map():
    shapes = jax.eval_shape(lambda: Counter().init(jax.random.key(0), jnp.zeros((1, 256, 256, 3))))[
        "params"
    ]
    assert len(shapes["backbone"]) == 16
    assert sum(x.size for x in jax.tree.leaves(shapes["backbone"])) == 20_024_384
    z = jax.eval_shape(
        lambda p: Counter().apply({"params": p}, jnp.zeros((2, 256, 256, 3))), shapes
    )
    assert z.shape == (2, 32, 32)


def test_counter_starts_at_the_mean_count(trained):
    stage, variables = trained["counter"]
    maps = jax.jit(stage.predict)(variables, batch()["labelled"]["image"])
    assert maps["coarse"].shape == (2, 4, 4)
    np.testing.assert_allclose(read_count(maps, stage.readout), 12.0, rtol=0.2)


def test_counting_ignores_the_sign_of_z(trained):
    stage, variables = trained["counter"]
    head = jax.tree.map(jnp.negative, variables.trained["head"])
    flipped = variables._replace(trained={**variables.trained, "head": head})
    image = batch()["labelled"]["image"]
    for one in (variables, flipped):
        np.testing.assert_allclose(
            jax.jit(stage.predict)(one, image)["coarse"],
            jax.jit(stage.predict)(variables, image)["coarse"],
        )


def test_the_loss_is_the_absolute_error_of_the_count(trained):
    stage, variables = trained["counter"]
    rows = batch()
    counts = read_count(jax.jit(stage.predict)(variables, rows["labelled"]["image"]), stage.readout)
    loss, _ = jax.jit(stage.loss)(
        variables.trained, {}, variables.model_state, rows, jax.random.key(0), jnp.int32(0)
    )
    np.testing.assert_allclose(loss, jnp.abs(counts - 12.0).mean(), rtol=1e-5)


def test_padding_rows_change_nothing(trained):
    stage, variables = trained["counter"]
    rows = batch()["labelled"]
    padded = {name: jnp.concatenate([value, 7 + value]) for name, value in rows.items()}
    padded["mask"] = jnp.array([1.0, 1.0, 0.0, 0.0])

    def loss(labelled):
        args = (variables.trained, {}, variables.model_state, {"labelled": labelled})
        return jax.jit(stage.loss)(*args, jax.random.key(0), jnp.int32(0))[0]

    np.testing.assert_allclose(loss(padded), loss(rows), rtol=1e-5)


def test_offsets_of_message_passing_receive_gradients():
    config = tiny_config(width=1 / 16)
    stage = build_stages(config)[0]
    rows = batch(side=64)
    variables = stage.init(jax.random.key(1), rows, {})

    def loss(params):
        args = (params, {}, variables.model_state, rows)
        return jax.jit(stage.loss)(*args, jax.random.key(0), jnp.int32(0))[0]

    gradients = jax.jit(jax.grad(loss))(variables.trained)["message_passing"]
    assert float(jnp.abs(gradients["u"]["kernel"]).max()) > 0
    assert float(jnp.abs(gradients["v"]["bias"]).max()) > 0


@pytest.mark.parametrize("combine", ["replace", "concat"])
def test_switches_of_message_passing(combine):
    stage = build_stages(tiny_config(combine=combine, n_samples=4, padding="zeros"))[0]
    variables = stage.init(jax.random.key(0), batch(), {})
    channels = variables.trained["head"]["kernel"].shape[2]
    assert channels == {"replace": 8, "concat": 16}[combine]


def test_without_message_passing_only_that_is_gone():
    stage = build_stages(tiny_config(message_passing=False))[0]
    variables = stage.init(jax.random.key(0), batch(), {})
    assert sorted(variables.trained) == ["backbone", "head"]


def test_localizer_keeps_the_counters_count_and_trains_nothing_of_it(trained):
    counter, counter_variables = trained["counter"]
    stage, variables = trained["localizer"]
    image = batch()["labelled"]["image"]
    maps = jax.jit(stage.predict)(variables, image)
    np.testing.assert_allclose(
        maps["coarse"], jax.jit(counter.predict)(counter_variables, image)["coarse"], rtol=1e-6
    )
    assert maps["density"].shape == (2, 32, 32)
    assert float(maps["density"].min()) >= 0
    assert "backbone" not in variables.trained
    assert "backbone" in variables.frozen["trained"]


def test_frozen_batch_norm_statistics_stay_as_they_are():
    stages = build_stages(tiny_config(batch_norm=True))
    rows = batch()
    counter = stages[0].init(jax.random.key(0), rows, {})
    localizer = stages[1].init(jax.random.key(0), rows, {"counter": counter})
    args = (localizer.trained, localizer.frozen, localizer.model_state, rows)
    _, (state, _) = jax.jit(stages[1].loss)(*args, jax.random.key(0), jnp.int32(0))
    assert set(state["batch_stats"]) == set(localizer.model_state["batch_stats"])
    own = jax.tree.leaves(state["batch_stats"])
    before = jax.tree.leaves(localizer.model_state["batch_stats"])
    assert any(not np.allclose(a, b) for a, b in zip(own, before, strict=True))
    # The counter in evaluation mode: one image's map does not depend on its neighbours.
    one = jax.jit(stages[1].predict)(localizer, rows["labelled"]["image"][:1])["coarse"]
    two = jax.jit(stages[1].predict)(localizer, rows["labelled"]["image"])["coarse"]
    np.testing.assert_allclose(one[0], two[0], atol=1e-5)


def test_unreachable_weights_name_the_alternatives(tmp_path):
    stage = build_stages(tiny_config(pretrained=str(tmp_path / "vgg19.pth")))[0]
    with pytest.raises(ValueError, match=r"vgg19.pth"):
        stage.init(jax.random.key(0), batch(), {})
