"""What a loss is given beside the trained variables, for tests that call one by itself."""

import jax
import jax.numpy as jnp

from cellcount_jax.methods.base import StepInput, Variables


def step_input(variables: Variables, batch: dict, *, key: int = 0, step: int = 0) -> StepInput:
    """The input of one step from a stage's variables."""
    return StepInput(
        batch=batch,
        key=jax.random.key(key),
        step=jnp.int32(step),
        frozen=variables.frozen,
        model_state=variables.model_state,
    )
