"""Teacher, student's view, scale of the terms and batch statistics of focal consistency."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cellcount_jax.methods import build_stages, consistency_loss
from tests.methods.step_input import step_input
from tests.methods.test_consistency import batch, fresh, loss_of, small

pytestmark = pytest.mark.usefixtures("quick_compilation")

CALM = {"model__dropout": 0.0, "consistency__noise_amplitude": 0.0}
"""Student and teacher are the same but for what a test changes."""


def consistency_of(config, *, norm="instance", given=None, average=None, key=0):
    (stage,) = build_stages(config)
    variables = fresh(norm)
    inputs = step_input(variables, given or batch(), key=key, step=1000)
    return jax.jit(stage.loss)(variables.trained, inputs._replace(average=average))[1][1]


def test_only_the_student_sees_the_changed_view():
    """Labelled crops stay as they were; the view differs from step to step."""
    plain = consistency_of(small(**CALM))
    assert plain["consistency"] < 1e-8
    changes = ("contrast", "offset", "gamma", "noise", "blur", "sharpness")
    viewed = small(**CALM, **{f"consistency__view__{change}": 0.5 for change in changes})
    (stage,) = build_stages(viewed)
    loss = jax.jit(stage.loss)
    variables = fresh()
    found = [
        loss(variables.trained, step_input(variables, batch(), key=k, step=1000))[1][1]
        for k in (0, 1)
    ]
    for metrics in found:
        np.testing.assert_allclose(metrics["supervised"], plain["supervised"], rtol=1e-5)
        assert metrics["consistency"] > 1e-5
    assert found[0]["consistency"] != found[1]["consistency"]


def test_an_averaged_teacher_is_the_network_with_averaged_weights():
    """If the average is twice the head, the teacher's map is twice the student's."""
    config = small(
        **CALM,
        consistency__teacher="average",
        stages__consistency__ema_decay=0.9,
        model__test_time_augmentation=False,
    )
    variables, given = fresh(), batch()
    doubled = {
        **variables.trained,
        "head": jax.tree.map(lambda x: 2 * x, variables.trained["head"]),
    }
    same = consistency_of(config, average=(variables.trained, variables.model_state))
    assert same["consistency"] < 1e-8
    found = consistency_of(config, average=(doubled, variables.model_state))
    (stage,) = build_stages(config)
    map = 10 * stage.predict(variables, given["unlabelled"]["image"])["inverse_distance"]
    weight = consistency_loss.losses.focal_weight(2 * map, peak_threshold=0.4)
    weight, map = np.asarray(weight), np.asarray(map)
    expected = (weight * map**2).sum() / (weight > 0).sum()
    np.testing.assert_allclose(found["consistency"], expected, rtol=2e-2)


def test_a_teacher_averaged_over_views_is_the_mean_over_mirror_images():
    """As in prediction, which is tested by itself: the student's map differs from that mean."""
    config = small(**CALM, consistency__teacher_views=True, consistency__normalise="pixels")
    given, variables = batch(), fresh()
    found = consistency_of(config, given=given)
    images = given["unlabelled"]["image"]
    mean, own = (
        10
        * build_stages(small(model__test_time_augmentation=views))[0].predict(variables, images)[
            "inverse_distance"
        ]
        for views in (True, False)
    )
    weight = consistency_loss.losses.focal_weight(mean, peak_threshold=0.4)
    expected = np.mean(np.asarray(weight) * np.asarray(own - mean) ** 2)
    np.testing.assert_allclose(found["consistency"], expected, rtol=1e-2)


def test_relative_scale_makes_the_terms_equal_at_weight_1():
    config = small(model__dropout=0.0, consistency__scale="relative", consistency__weight=0.5)
    (stage,) = build_stages(config)
    variables = stage.init(jax.random.key(0), batch(), {})
    (value, (state, metrics)), _ = loss_of(stage, variables, batch(), step=0)
    ramp = np.exp(-5)
    np.testing.assert_allclose(value, (1 + 0.5 * ramp) * metrics["supervised"], rtol=1e-4)
    np.testing.assert_allclose(state["term_sizes"]["supervised"], metrics["supervised"], rtol=1e-6)
    later = variables._replace(model_state=state)
    (_, (state, metrics)), _ = loss_of(stage, later, batch(labelled=3), key=1, step=1000)
    for name in ("supervised", "consistency"):
        old = later.model_state["term_sizes"][name]
        expected = 0.9 * old + 0.1 * metrics[name]
        np.testing.assert_allclose(state["term_sizes"][name], expected, rtol=1e-5)


def test_statistics_per_stream_do_not_couple_the_streams():
    """Bright unlabelled crops: labelled maps and kept statistics stay what they are alone."""
    given = batch()
    given["unlabelled"]["image"] = 10 * given["unlabelled"]["image"] + 3
    stream = small(**CALM, model__norm="batch", consistency__statistics="stream")
    found = consistency_of(stream, norm="batch", given=given)
    assert found["consistency"] < 1e-6  # student and teacher share the stream's statistics
    coupled = small(**CALM, model__norm="batch")
    assert consistency_of(coupled, norm="batch", given=given)["consistency"] > 1e-2


def test_unknown_options_are_told():
    with pytest.raises(ValueError, match=r"consistency\.teacher: 'mean' is not one of"):
        build_stages(small(consistency__teacher="mean"))
    config = small(consistency__teacher="average", stages__consistency__ema_decay=0.0)
    with pytest.raises(ValueError, match=r"set config\.stages\.consistency\.ema_decay above 0"):
        build_stages(config)


def test_released_preset_weights_every_peak():
    assert small().consistency.peak_threshold == 0.4
    assert small("tiny_released").consistency.peak_threshold is None
    assert jnp.isfinite(consistency_of(small("tiny_released"))["consistency"])
