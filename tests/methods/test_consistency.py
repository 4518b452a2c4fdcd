"""Focal consistency: what the noise touches, where the gradient goes, when the weight rises."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cellcount_jax import defaults
from cellcount_jax.data import targets
from cellcount_jax.methods import build_stages, consistency_loss
from cellcount_jax.methods.base import Variables
from cellcount_jax.methods.consistency_loss import standardised
from cellcount_jax.training import optimizer
from configs import consistency_vgg
from tests.methods.step_input import step_input

pytestmark = pytest.mark.usefixtures("quick_compilation")


def small(preset="tiny", **fields):
    config = consistency_vgg.get_config(preset)
    config.model.levels, config.model.norm = 2, "instance"
    config.update_from_flattened_dict({k.replace("__", "."): v for k, v in fields.items()})
    return config


def rows(key, n):
    image, target = jax.random.normal(key, (2, n, 16, 16))
    image = jnp.stack([image, 2 * image, image**2], -1)
    return {"image": image, "target": jnp.abs(target), "mask": jnp.ones(n)}


def batch(*, labelled=2, unlabelled=2):
    a, b = jax.random.split(jax.random.key(1))
    made = {"labelled": rows(a, labelled)}
    if unlabelled:
        made["unlabelled"] = rows(b, unlabelled)
    return made


@functools.cache
def fresh(norm="instance"):
    """Variables of the small network; no other option changes them."""
    (stage,) = build_stages(small(model__norm=norm))
    return stage.init(jax.random.key(0), batch(), {})


def loss_of(stage, variables, given, *, key=0, step=1000):
    inputs = step_input(variables, given, key=key, step=step)
    return jax.jit(jax.value_and_grad(stage.loss, has_aux=True))(variables.trained, inputs)


def test_supervised_loss_is_the_mean_squared_error_of_the_scaled_map():
    (stage,) = build_stages(
        small("tiny_supervised", model__dropout=0.0, model__test_time_augmentation=False)
    )
    variables, given = fresh(), batch(unlabelled=0)
    (value, (_, metrics)), _ = loss_of(stage, variables, given)
    predicted = stage.predict(variables, given["labelled"]["image"])["inverse_distance"]
    expected = np.mean((10 * np.asarray(predicted) - 10 * given["labelled"]["target"]) ** 2)
    np.testing.assert_allclose(value, expected, rtol=1e-4)
    assert "consistency" not in metrics


def test_padding_rows_do_not_count():
    (stage,) = build_stages(small("tiny_supervised", model__dropout=0.0))
    variables, given = fresh(), batch(labelled=3, unlabelled=0)
    two = {"labelled": {k: v[:2] for k, v in given["labelled"].items()}}
    given["labelled"]["mask"] = jnp.array([1.0, 1.0, 0.0])
    np.testing.assert_allclose(
        loss_of(stage, variables, given)[0][0], loss_of(stage, variables, two)[0][0], rtol=1e-5
    )


def test_noise_reaches_unlabelled_rows_alone():
    (stage,) = build_stages(small(model__dropout=0.0))
    variables, given = fresh(), batch()
    found = [loss_of(stage, variables, given, key=k)[0][1][1] for k in (0, 1)]
    np.testing.assert_allclose(found[0]["supervised"], found[1]["supervised"], rtol=1e-6)
    assert found[0]["consistency"] != found[1]["consistency"]


def test_without_noise_and_dropout_the_student_is_its_teacher(monkeypatch):
    """The consistency is 0 and adds no gradient, so none comes through the teacher either."""
    monkeypatch.setattr(consistency_loss, "inject_noise", lambda key, features, **_: list(features))
    (stage,) = build_stages(small(model__dropout=0.0))
    variables = fresh()
    (_, (_, metrics)), both = loss_of(stage, variables, batch())
    _, alone = loss_of(stage, variables, batch(unlabelled=0))
    np.testing.assert_allclose(metrics["consistency"], 0.0, atol=1e-8)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-3), both, alone)


def test_consistency_weight_rises_from_exp_minus_5_to_the_one_asked_for():
    (stage,) = build_stages(small(consistency__weight=3.0))
    variables, given = fresh(), batch()
    for step, expected in ((0, 3 * np.exp(-5)), (75, 3 * np.exp(-2.5)), (150, 3.0), (900, 3.0)):
        (value, (_, metrics)), _ = loss_of(stage, variables, given, step=step)
        np.testing.assert_allclose(metrics["consistency_weight"], expected, rtol=1e-5)
        whole = metrics["supervised"] + expected * metrics["consistency"]
        np.testing.assert_allclose(value, whole, rtol=1e-5)


def test_published_optimizer_decays_by_the_learning_rate_itself():
    """Before each Adam step a weight is multiplied by 1 - lr(t); Adam of a zero gradient is 0."""
    plan = defaults.consistency().stages.consistency
    tx = optimizer.from_config(plan.optimizer, steps=plan.steps, steps_per_epoch=1)
    weight, expected = jnp.asarray(2.0), 2.0
    state = tx.init(weight)
    for step in range(60):
        update, state = tx.update(jnp.asarray(0.0), state, weight)
        weight = weight + update
        position = step if step < 50 else (step - 50) / 2
        expected *= 1 - 1e-3 * (1 + np.cos(np.pi * position / 50)) / 2
    np.testing.assert_allclose(weight, expected, rtol=1e-5)


def test_batch_norm_is_recalibrated_on_the_labelled_images():
    (stage,) = build_stages(small(model__norm="batch", model__dropout=0.0))
    variables = fresh("batch")
    data = {"labelled": {"image": np.asarray(rows(jax.random.key(3), 5)["image"])}}
    found = stage.finish(variables, data)
    first = np.maximum(
        jax.lax.conv_general_dilated(
            data["labelled"]["image"],
            variables.trained["down0_0"]["conv"]["kernel"],
            (1, 1),
            "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        + variables.trained["down0_0"]["conv"]["bias"][None, None, None],
        0,
    )
    mean = found.model_state["batch_stats"]["down0_0"]["norm"]["mean"]
    np.testing.assert_allclose(mean, first.mean(axis=(0, 1, 2)), rtol=1e-3, atol=1e-5)
    assert isinstance(found, Variables)


def test_gaussian_counts_by_integral_and_inverse_distance_by_points():
    (inverse,), (gaussian,) = (
        build_stages(small(p, model__unsharp_sigma=0.0)) for p in ("tiny", "tiny_gaussian")
    )
    assert inverse.readout.count == "peaks"
    assert gaussian.readout.count == "integral"
    lone = targets.gaussian_density([[20, 20]], (41, 41), sigma=1.0).max()
    np.testing.assert_allclose(gaussian.readout.single_cell_peak, lone, rtol=1e-6)
    assert {d for d, _ in inverse.readout.candidates} == {"components", "peaks"}


def test_standardised_crops_have_mean_0_and_deviation_1_and_blank_ones_stay_finite():
    images = jnp.stack(
        [jax.random.normal(jax.random.key(0), (8, 8, 2)) * 3 + 5, jnp.ones((8, 8, 2))]
    )
    found = np.asarray(standardised(images))
    np.testing.assert_allclose(found[0].mean((0, 1)), 0, atol=1e-5)
    np.testing.assert_allclose(found[0].std((0, 1)), 1, rtol=1e-4)
    assert (found[1] == 0).all()


def test_noise_stays_out_of_batch_statistics():
    (stage,) = build_stages(small(model__norm="batch", model__dropout=0.0))
    variables, given = fresh("batch"), batch()
    found = [loss_of(stage, variables, given, key=k)[0][1] for k in (0, 1)]
    assert found[0][1]["consistency"] != found[1][1]["consistency"]
    without = loss_of(stage, variables, {"labelled": given["labelled"]})[0][1][0]
    for state, _ in found:
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4), state, without)


def test_noise_of_a_blank_volume_is_not_stretched_to_the_intensity_of_cells():
    (stage,) = build_stages(small(model__standardise=True))
    variables = fresh()
    images = np.asarray(rows(jax.random.key(3), 3)["image"])
    found = stage.finish(variables, {"labelled": {"image": images}})
    least = 0.25 * images.std(axis=(1, 2)).min(axis=0)
    np.testing.assert_allclose(found.extras["least_spread"], least, rtol=1e-5)
    dim = 0.01 * images[:1]
    np.testing.assert_allclose(
        standardised(dim, least=least), (dim - dim.mean((1, 2))) / least, rtol=1e-3, atol=1e-5
    )
    np.testing.assert_allclose(standardised(images, least=least), standardised(images))


def test_unknown_target_is_told():
    with pytest.raises(ValueError, match=r"config\.model\.target: 'disc' is not one of"):
        build_stages(small(model__target="disc"))
