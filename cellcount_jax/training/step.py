"""One training step: a pure function, jitted once over globally sharded arrays (SPMD)."""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

from cellcount_jax.methods.base import Batch, Stage, StepInput, Tree, Variables
from cellcount_jax.runtime import sharding

Metrics = dict[str, jax.Array]

REMAT: dict[str, Callable[..., bool] | None] = {
    "none": None,
    "convolutions": jax.checkpoint_policies.save_from_both_policies(
        jax.checkpoint_policies.dots_saveable,
        jax.checkpoint_policies.save_only_these_names("convolution"),
    ),
    "pools": jax.checkpoint_policies.save_only_these_names("pool"),
}
"""Rematerialisation policies: `none` saves all residuals of the forward pass, `convolutions` the
outputs of convolutions and matrix products (hardly slower), `pools` those of max pools (least
memory, about 1.3x FLOPs). For accelerators: on CPU they save no memory."""


@flax.struct.dataclass
class State:
    """What changes between steps; arrays only. Frozen parameters are passed apart, undonated."""

    step: jax.Array
    trained: Tree
    model_state: Tree
    opt_state: Tree
    extras: dict[str, jax.Array]
    ema: Tree
    """Moving averages of (trained, model_state), used for prediction; {} if there are none."""

    def variables(self, frozen: Tree) -> Variables:
        """The variables used for prediction."""
        trained, model_state = self.ema or (self.trained, self.model_state)
        return Variables(trained, frozen, model_state, self.extras)

    def continued_with(self, changed: Variables) -> "State":
        """The state at the same step with other variables; moving averages start from them."""
        moving = (changed.trained, changed.model_state)
        return dataclasses.replace(
            self,
            trained=changed.trained,
            model_state=changed.model_state,
            extras=changed.extras,
            ema=jax.tree.map(jnp.copy, moving) if self.ema else {},
        )


Gradients = Callable[[Tree, StepInput], tuple[Tree, Tree, Metrics]]
"""(trained, inputs) -> gradients, model state, metrics including the loss."""


def create_state(
    variables: Variables, tx: optax.GradientTransformation, *, ema_decay: float = 0.0
) -> State:
    """The state at step 0; with `ema_decay`, moving averages start at the initial values."""
    moving = (variables.trained, variables.model_state)
    return State(
        step=jnp.zeros((), jnp.int32),
        trained=variables.trained,
        model_state=variables.model_state,
        opt_state=tx.init(variables.trained),
        # Copies: the step donates its state, and one buffer cannot be donated twice.
        extras=jax.tree.map(jnp.copy, variables.extras),
        ema=jax.tree.map(jnp.copy, moving) if ema_decay else {},
    )


def make_step(
    stage: Stage,
    tx: optax.GradientTransformation,
    sampler: Callable[[Any, jax.Array], Batch],
    mesh: jax.sharding.Mesh,
    *,
    seed: int,
    ema_decay: float = 0.0,
    grad_accumulation: int = 1,
    remat: str = "none",
    steps: int | None = None,
) -> jax.stages.Wrapped:
    """The jitted step of a stage.

    Args:
      stage: Stage whose loss is minimised over its trained part.
      tx: Optimizer.
      sampler: Pure function (data, step) -> batch; the data are all of them, or this step's rows.
      mesh: Mesh over which batches are split.
      seed: Seed of the run; the key of a step is folded from it and the step's number.
      ema_decay: Decay per step of a moving average of the weights, which is then used for
        prediction; 0: none.
      grad_accumulation: Number of microbatches processed sequentially, so that only one is in
        memory; see `_accumulated`.
      remat: What of the forward pass is saved for the backward pass, see `REMAT`.
      steps: Number of steps per call, if all data are resident; metrics are then [steps].

    Returns:
      (state, frozen, data) -> (state, metrics). The state is donated.

    Raises:
      ValueError: Unknown `remat`; when traced, microbatches that do not divide the batch.
    """
    compute = _gradients(stage, remat)
    if grad_accumulation != 1:
        compute = _accumulated(compute, stage.name, mesh, grad_accumulation)
    draw = _input(sampler, mesh, jax.random.key(seed))

    def step(state: State, frozen: Tree, data: Any) -> tuple[State, Metrics]:
        grads, model_state, metrics = compute(state.trained, draw(state, frozen, data))
        new = _updated(state, tx, grads, model_state, ema_decay)
        return new, {**metrics, "gradient_norm": optax.tree.norm(grads)}

    def many(state: State, frozen: Tree, data: Any) -> tuple[State, Metrics]:
        return jax.lax.scan(lambda state, _: step(state, frozen, data), state, length=steps)

    everywhere = sharding.replicated(mesh)
    function = step if steps is None else many
    return jax.jit(function, donate_argnums=0, out_shardings=(everywhere, everywhere))


def _input(
    sampler: Callable[[Any, jax.Array], Batch], mesh: jax.sharding.Mesh, base: jax.Array
) -> Callable[[State, Tree, Any], StepInput]:
    """A function (state, frozen, data) -> input of the next step's loss."""

    def draw(state: State, frozen: Tree, data: Any) -> StepInput:
        batch = sharding.split_rows(sampler(data, state.step), mesh)
        key = jax.random.fold_in(base, state.step)
        average = state.ema or None
        return StepInput(batch, key, state.step, frozen, state.model_state, average)

    return draw


def _updated(
    state: State,
    tx: optax.GradientTransformation,
    grads: Tree,
    model_state: Tree,
    ema_decay: float,
) -> State:
    updates, opt_state = tx.update(grads, state.opt_state, state.trained)
    trained = optax.apply_updates(state.trained, updates)
    return dataclasses.replace(
        state,
        step=state.step + 1,
        trained=trained,
        model_state=model_state,
        opt_state=opt_state,
        ema=_moving_average(state, (trained, model_state), ema_decay),
    )


def _gradients(stage: Stage, remat: str) -> Gradients:
    """A function that computes the loss's gradients for a whole batch at once."""
    if remat not in REMAT:
        raise ValueError(f"remat is {remat!r}; it is one of {', '.join(REMAT)}")
    policy = REMAT[remat]
    loss = stage.loss if policy is None else jax.checkpoint(stage.loss, policy=policy)
    value_and_grad = jax.value_and_grad(loss, has_aux=True)

    def compute(trained: Tree, inputs: StepInput) -> tuple[Tree, Tree, Metrics]:
        (value, (model_state, metrics)), grads = value_and_grad(trained, inputs)
        return grads, model_state, {**metrics, "loss": value}

    return compute


def _accumulated(compute: Gradients, name: str, mesh: jax.sharding.Mesh, n: int) -> Gradients:
    """The same for n microbatches, processed sequentially.

    The gradients are averaged over microbatches, weighted by their real labelled rows: exact for
    losses that are means over rows. Batch norm normalises within a microbatch.
    """

    def accumulate(trained: Tree, inputs: StepInput) -> tuple[Tree, Tree, Metrics]:
        _check_divides(name, inputs.batch, n)
        microbatches = sharding.split_parts(inputs.batch, mesh, n)
        weights = microbatches["labelled"]["mask"].sum(axis=1)
        weights /= jnp.maximum(weights.sum(), 1.0)

        def add(carry: tuple[Tree, Any], given: tuple) -> tuple[tuple[Tree, Any], None]:
            model_state, total = carry
            number, weight, batch = given
            key = jax.random.fold_in(inputs.key, number)
            own = inputs._replace(batch=batch, key=key, model_state=model_state)
            grads, model_state, metrics = compute(trained, own)
            total = jax.tree.map(lambda t, x: t + weight * x, total, (grads, metrics))
            return (model_state, total), None

        first = inputs._replace(batch=jax.tree.map(lambda x: x[0], microbatches))
        grads, _, metrics = jax.eval_shape(compute, trained, first)
        zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), (grads, metrics))
        given = (jnp.arange(n), weights, microbatches)
        (model_state, (grads, metrics)), _ = jax.lax.scan(add, (inputs.model_state, zeros), given)
        return grads, model_state, metrics

    return accumulate


def _check_divides(name: str, batch: Batch, microbatches: int) -> None:
    for stream, rows in batch.items():
        n = len(rows["mask"])
        if microbatches < 1 or n % microbatches:
            raise ValueError(
                f"stages.{name}.grad_accumulation is {microbatches}, which does not divide the {n} "
                f"{stream} images of a batch; choose a divisor of {n}"
            )


def _moving_average(state: State, values: Tree, decay: float) -> Tree:
    if not decay:
        return {}
    # A smaller decay at first, so that the initial values are soon forgotten.
    step = state.step.astype(jnp.float32)
    rate = jnp.minimum(decay, (1.0 + step) / (10.0 + step))
    return jax.tree.map(lambda old, new: rate * old + (1.0 - rate) * new, state.ema, values)
