"""DCL: what the counter promises, what the localizer leaves alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from cellcount_jax.methods import build_stages
from cellcount_jax.methods.base import Stage, Variables
from cellcount_jax.methods.dcl import DCLCounter
from cellcount_jax.models.message_passing import spread
from configs import dcl_vgg
from tests.methods.step_input import step_input

pytestmark = pytest.mark.usefixtures("quick_compilation")


def tiny_config(**model) -> ConfigDict:
    """Without batch norm: maps in training are those of prediction."""
    config = dcl_vgg.get_config("tiny_pretrained")
    config.model.update({"batch_norm": False, **model})
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
    images = jnp.zeros((1, 256, 256, 3))
    shapes = jax.eval_shape(lambda: DCLCounter().init(jax.random.key(0), images))["params"]
    assert len(shapes["backbone"]) == 16
    assert sum(x.size for x in jax.tree.leaves(shapes["backbone"])) == 20_024_384
    z = jax.eval_shape(
        lambda p: DCLCounter().apply({"params": p}, jnp.zeros((2, 256, 256, 3))), shapes
    )
    assert z.shape == (2, 32, 32)


def test_counter_starts_at_the_mean_count(trained):
    stage, variables = trained["counter"]
    maps = jax.jit(stage.predict)(variables, batch()["labelled"]["image"])
    assert maps["coarse"].shape == (2, 4, 4)
    np.testing.assert_allclose(maps["coarse"].sum((1, 2)), 12.0, rtol=0.2)


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
    counts = jax.jit(stage.predict)(variables, rows["labelled"]["image"])["coarse"].sum((1, 2))
    loss, _ = jax.jit(stage.loss)(variables.trained, step_input(variables, rows))
    # The counts are near 12, so that their difference has fewer digits.
    np.testing.assert_allclose(loss, jnp.abs(counts - 12.0).mean(), rtol=1e-5, atol=2e-6)


def test_padding_rows_change_nothing(trained):
    stage, variables = trained["counter"]
    rows = batch()["labelled"]
    padded = {name: jnp.concatenate([value, 7 + value]) for name, value in rows.items()}
    padded["mask"] = jnp.array([1.0, 1.0, 0.0, 0.0])

    def loss(labelled):
        inputs = step_input(variables, {"labelled": labelled})
        return jax.jit(stage.loss)(variables.trained, inputs)[0]

    np.testing.assert_allclose(loss(padded), loss(rows), rtol=1e-5)


def test_offsets_of_message_passing_receive_gradients():
    config = tiny_config(width=1 / 16)
    stage = build_stages(config)[1]
    rows = batch(side=64)
    variables = stage.init(jax.random.key(1), rows, {})

    def loss(params):
        return jax.jit(stage.loss)(params, step_input(variables, rows))[0]

    gradients = jax.jit(jax.grad(loss))(variables.trained)["message_passing"]
    assert float(jnp.abs(gradients["u"]["kernel"]).max()) > 0
    assert float(jnp.abs(gradients["v"]["bias"]).max()) > 0


def test_the_number_of_samples_is_that_of_the_config():
    stage = build_stages(tiny_config(n_samples=4))[1]
    variables = stage.init(jax.random.key(0), batch(), {})
    assert variables.trained["message_passing"]["u"]["bias"].shape == (4,)


def test_without_message_passing_only_that_is_gone():
    stage = build_stages(tiny_config(message_passing=False))[1]
    variables = stage.init(jax.random.key(0), batch(), {})
    assert sorted(variables.trained) == ["backbone", "head"]


def test_pretraining_fits_the_density_of_dots_and_hands_its_weights_on(trained):
    stage, variables = trained["pretrain"]
    rows = batch()
    coarse = jax.jit(stage.predict)(variables, rows["labelled"]["image"])["coarse"]
    density = np.asarray(rows["labelled"]["target"]).reshape(2, 4, 8, 4, 8).sum((2, 4))
    loss, (_, metrics) = jax.jit(stage.loss)(variables.trained, step_input(variables, rows))
    np.testing.assert_allclose(loss, np.square(coarse - density).mean(), rtol=1e-5)
    assert 0 < float(metrics["offset_moved"]) < 1
    counter = trained["counter"][1]
    jax.tree.map(np.testing.assert_array_equal, counter.trained, variables.trained)
    dots = np.array([[8, 8]], np.float32)
    assert stage.target(dots, (32, 32)).sum() == pytest.approx(1.0, rel=1e-3)
    assert [s.name for s in build_stages(dcl_vgg.get_config())] == ["counter", "localizer"]


def test_the_distance_that_offsets_moved_is_logged(trained):
    stage, variables = trained["counter"]
    rows = batch()
    passing = jax.tree.map(jnp.zeros_like, variables.trained["message_passing"])
    start = spread(9, (4, 4))
    passing["v"]["bias"], passing["u"]["bias"] = start[:, 0] + 3.0, start[:, 1] - 4.0
    moved = {**variables.trained, "message_passing": passing}
    _, (_, metrics) = jax.jit(stage.loss)(moved, step_input(variables, rows))
    assert float(metrics["offset_moved"]) == pytest.approx(5.0, rel=1e-5)


def test_crops_of_the_localizer_hold_their_part_of_the_whole_map(trained):
    stage, variables = trained["localizer"]
    rows = batch()
    prepared = stage.prepare(rows, variables.frozen)["labelled"]
    image = np.asarray(rows["labelled"]["image"])
    np.testing.assert_array_equal(prepared["image"][..., :3], image)
    coarse = jax.jit(stage.predict)(variables, image)["coarse"]
    scale = dcl_vgg.get_config("tiny_pretrained").localizer.target_scale
    sums = prepared["image"][..., 3].sum((1, 2))
    np.testing.assert_allclose(sums, scale * coarse.sum((1, 2)), rtol=1e-4)
    blind = tiny_config()
    blind.localizer.coarse = False
    other = build_stages(blind)[-1]
    alone = other.init(jax.random.key(1), rows, {"counter": trained["counter"][1]})
    assert other.prepare(rows, alone.frozen)["labelled"]["image"].shape[-1] == 3
    found = jax.jit(other.predict)(alone, image)
    np.testing.assert_allclose(found["coarse"], coarse, rtol=1e-5)


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


def test_the_localizers_extra_channel_sums_to_the_count(trained):
    stage, variables = trained["localizer"]
    parameters = jax.tree.map(jnp.zeros_like, variables.trained)
    # Weights that hand the last channel of the input on to the output, past the coarser levels.
    first, *rest = ("down0_0", "down0_1", "merge0_0", "merge0_1")
    parameters[first]["kernel"] = parameters[first]["kernel"].at[1, 1, -1, 0].set(1.0)
    for name in rest:
        parameters[name]["kernel"] = parameters[name]["kernel"].at[1, 1, 0, 0].set(1.0)
    parameters["head"]["kernel"] = parameters["head"]["kernel"].at[0, 0, 0, 0].set(1.0)
    for name in parameters:
        if "norm" in name:
            parameters[name]["scale"] = jnp.ones_like(parameters[name]["scale"])
    image = batch()["labelled"]["image"]
    maps = jax.jit(stage.predict)(variables._replace(trained=parameters), image)
    counts = np.abs(maps["coarse"]).sum(axis=(1, 2))
    np.testing.assert_allclose(maps["density"].sum(axis=(1, 2)), counts, rtol=1e-3)


def test_frozen_batch_norm_statistics_stay_as_they_are():
    stages = build_stages(tiny_config(batch_norm=True))[1:]
    rows = batch()
    counter = stages[0].init(jax.random.key(0), rows, {})
    localizer = stages[1].init(jax.random.key(0), rows, {"counter": counter})
    inputs = step_input(localizer, stages[1].prepare(rows, localizer.frozen))
    _, (state, _) = jax.jit(stages[1].loss)(localizer.trained, inputs)
    assert set(state["batch_stats"]) == set(localizer.model_state["batch_stats"])
    own = jax.tree.leaves(state["batch_stats"])
    before = jax.tree.leaves(localizer.model_state["batch_stats"])
    assert any(not np.allclose(a, b) for a, b in zip(own, before, strict=True))
    # The counter in evaluation mode: one image's map does not depend on its neighbours.
    one = jax.jit(stages[1].predict)(localizer, rows["labelled"]["image"][:1])["coarse"]
    two = jax.jit(stages[1].predict)(localizer, rows["labelled"]["image"])["coarse"]
    np.testing.assert_allclose(one[0], two[0], atol=1e-5)


def test_unreachable_weights_name_the_alternatives(tmp_path):
    stage = build_stages(tiny_config(pretrained=str(tmp_path / "vgg19.pth")))[1]
    with pytest.raises(ValueError, match=r"vgg19.pth"):
        stage.init(jax.random.key(0), batch(), {})
