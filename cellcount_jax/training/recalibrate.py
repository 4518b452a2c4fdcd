"""Recomputes batch-norm statistics for averaged (EMA) weights.

Running statistics averaged over the steps do not match the averaged weights.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from cellcount_jax.methods.base import Stage, StepInput, Tree, Variables
from cellcount_jax.models.recalibrate_batch_norm import recalibrate_batch_norm
from cellcount_jax.training.input_pipeline import InputPipeline

STATISTICS = "batch_stats"


def make_recalibration(
    stage: Stage, pipeline: InputPipeline, *, batches: int, seed: int
) -> Callable[[Variables], Variables]:
    """A function that replaces the batch statistics of variables with those of training batches.

    Args:
      stage: Stage whose loss returns the statistics of a batch.
      pipeline: Input of the stage; its first batches are used, crops and flips included.
      batches: Number of training batches.
      seed: Seed of the run, for losses that draw random numbers.

    Returns:
      The function; it leaves variables without batch statistics unchanged.
    """

    @jax.jit
    def update(statistics: Tree, given: tuple[Variables, Tree, jax.Array]) -> Tree:
        variables, data, step = given
        key = jax.random.fold_in(jax.random.key(seed), step)
        state = {**variables.model_state, STATISTICS: statistics}
        inputs = StepInput(pipeline.sampler(data, step), key, step, variables.frozen, state)
        return stage.loss(variables.trained, inputs)[1][0][STATISTICS]

    def recalibrate(variables: Variables) -> Variables:
        if not variables.model_state.get(STATISTICS):
            return variables
        with pipeline.from_step(0) as data:
            given = (((variables, next(data), jnp.int32(step)), 1) for step in range(batches))
            statistics = recalibrate_batch_norm(update, variables.model_state[STATISTICS], given)
        return variables._replace(model_state={**variables.model_state, STATISTICS: statistics})

    return recalibrate
