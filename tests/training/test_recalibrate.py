"""Batch statistics of averaged weights: those of training batches, nothing of the old ones."""

import jax
import jax.numpy as jnp
import numpy as np

from cellcount_jax.methods.base import Readout, Stage, Variables
from cellcount_jax.training.input_pipeline import InputPipeline
from cellcount_jax.training.recalibrate import make_recalibration


def test_statistics_are_those_of_the_first_batches():
    """A stage that multiplies by its one weight and keeps mean and variance of the product."""

    def loss(trained, inputs):
        values = trained["weight"] * inputs.batch["labelled"]["image"]
        fresh = {"mean": values.mean(), "var": values.var()}
        old = inputs.model_state["batch_stats"]["norm"]
        new = jax.tree.map(lambda a, b: 0.9 * a + 0.1 * b, old, fresh)
        return values.sum(), ({"batch_stats": {"norm": new}}, {})

    stage = Stage("toy", lambda *_: None, loss, lambda *_: {}, Readout("x"), stride=1)
    data = jnp.asarray(np.random.default_rng(0).normal(2.0, 3.0, (5, 40)), jnp.float32)
    pipeline = InputPipeline({}, data, lambda data, step: {"labelled": {"image": data[step]}})
    old = {"batch_stats": {"norm": {"mean": jnp.float32(77.0), "var": jnp.float32(88.0)}}}
    variables = Variables({"weight": jnp.float32(4.0)}, {}, old, {})
    found = make_recalibration(stage, pipeline, batches=3, seed=0)(variables)
    norm, used = found.model_state["batch_stats"]["norm"], 4.0 * np.asarray(data[:3])
    np.testing.assert_allclose(norm["mean"], used.mean(), rtol=1e-5)
    np.testing.assert_allclose(norm["var"], used.var(), rtol=1e-5)
    assert found.trained is variables.trained
    plain = variables._replace(model_state={"batch_stats": {}})
    assert make_recalibration(stage, pipeline, batches=3, seed=0)(plain) is plain
