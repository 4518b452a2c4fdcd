"""One training step: a pure function, jitted in global view over the data mesh."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

from cellcount_jax.methods.stage import Batch, Stage, Tree, Variables
from cellcount_jax.runtime import sharding


@flax.struct.dataclass
class State:
    """What changes from step to step; arrays only. Frozen parts travel beside it, undonated."""

    step: jax.Array
    trained: Tree
    model_state: Tree
    opt_state: Tree
    extras: dict[str, jax.Array]
    average: Tree
    """Running means of (trained, model_state), which then predict; {} if there are none."""

    def variables(self, frozen: Tree) -> Variables:
        """The part that predicts."""
        trained, model_state = self.average or (self.trained, self.model_state)
        return Variables(trained, frozen, model_state, self.extras)


def create_state(
    variables: Variables, tx: optax.GradientTransformation, *, average: float = 0.0
) -> State:
    """Step 0; with `average`, the running means begin at the initial values."""
    moving = (variables.trained, variables.model_state)
    return State(
        step=jnp.zeros((), jnp.int32),
        trained=variables.trained,
        model_state=variables.model_state,
        opt_state=tx.init(variables.trained),
        # Copies: the step donates its state, and one buffer cannot be donated twice.
        extras=jax.tree.map(jnp.copy, variables.extras),
        average=jax.tree.map(jnp.copy, moving) if average else {},
    )


def make_step(
    stage: Stage,
    tx: optax.GradientTransformation,
    sampler: Callable[[Any, jax.Array], Batch],
    mesh: jax.sharding.Mesh,
    seed: int,
    average: float = 0.0,
) -> jax.stages.Wrapped:
    """The jitted step of a stage.

    Args:
      stage: whose loss is minimised over its trained part.
      tx: optimiser.
      sampler: (data, step) -> batch, pure. What it takes as data is for the feed to say: all of
        them, or the rows of this step.
      mesh: batches are split over it.
      seed: of the run; the key of a step is folded from it and the step's number.
      average: decay per step of running means of the weights (Polyak averaging), which then
        predict in place of the last ones; 0 for none.

    Returns:
      (state, frozen, data) -> (state, metrics). The state is donated.
    """
    base = jax.random.key(seed)

    def step(state: State, frozen: Tree, data: Any) -> tuple[State, dict[str, jax.Array]]:
        batch = sharding.split_rows(sampler(data, state.step), mesh)
        key = jax.random.fold_in(base, state.step)

        def loss(trained: Tree) -> tuple[jax.Array, tuple[Tree, Mapping[str, jax.Array]]]:
            return stage.loss(trained, frozen, state.model_state, batch, key, state.step)

        (value, (model_state, metrics)), gradients = jax.value_and_grad(loss, has_aux=True)(
            state.trained
        )
        updates, opt_state = tx.update(gradients, state.opt_state, state.trained)
        trained = optax.apply_updates(state.trained, updates)
        metrics = {**metrics, "loss": value, "gradient_norm": optax.tree.norm(gradients)}
        new = dataclasses.replace(
            state,
            step=state.step + 1,
            trained=trained,
            model_state=model_state,
            opt_state=opt_state,
            average=_running_mean(state, (trained, model_state), average),
        )
        return new, metrics

    everywhere = sharding.replicated(mesh)
    return jax.jit(step, donate_argnums=0, out_shardings=(everywhere, everywhere))


def _running_mean(state: State, values: Tree, decay: float) -> Tree:
    if not decay:
        return {}
    # Shorter at first, so that the initial values are soon forgotten.
    rate = jnp.minimum(decay, (1.0 + state.step) / (10.0 + state.step))
    return jax.tree.map(lambda old, new: rate * old + (1.0 - rate) * new, state.average, values)
