"""One training step: a pure function, jitted in global view over the data mesh."""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

from cellcount_jax.methods.base import Batch, Stage, Tree, Variables
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
"""What is kept of the forward pass, the rest being computed again: all that the backward pass asks
for; what convolutions and matrix products give (norms and activations again, hardly slower); what
max pools give (all again, a third more work, least memory). Worth it on accelerators only: XLA's
order of work on CPU frees nothing."""


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


Gradients = Callable[[State, Tree, Tree, Batch, jax.Array], tuple[Tree, Tree, Metrics]]
"""(state, frozen, model state, batch, key) -> gradient, model state, metrics with the loss."""


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
    *,
    accumulate: int = 1,
    remat: str = "none",
    steps: int | None = None,
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
      accumulate: parts of the batch that go through the network one after the other, so that the
        memory of one part is enough. The gradient is the mean over the parts, weighted by their
        real labelled rows: that of the whole batch for losses that are means over its rows. Batch
        norm normalises within a part.
      remat: what of the forward pass is kept for the backward pass, see `REMAT`.
      steps: so many steps in one call, where all data are resident; metrics are then [steps].

    Returns:
      (state, frozen, data) -> (state, metrics). The state is donated.

    Raises:
      ValueError: an unknown `remat`; when it is traced, parts that do not divide the batch.
    """
    gradients = _gradients(stage, remat)
    if accumulate != 1:
        gradients = _in_parts(gradients, stage.name, mesh, accumulate)
    base = jax.random.key(seed)

    def step(state: State, frozen: Tree, data: Any) -> tuple[State, Metrics]:
        batch = sharding.split_rows(sampler(data, state.step), mesh)
        key = jax.random.fold_in(base, state.step)
        slopes, model_state, metrics = gradients(state, frozen, state.model_state, batch, key)
        updates, opt_state = tx.update(slopes, state.opt_state, state.trained)
        trained = optax.apply_updates(state.trained, updates)
        new = dataclasses.replace(
            state,
            step=state.step + 1,
            trained=trained,
            model_state=model_state,
            opt_state=opt_state,
            average=_running_mean(state, (trained, model_state), average),
        )
        return new, {**metrics, "gradient_norm": optax.tree.norm(slopes)}

    def many(state: State, frozen: Tree, data: Any) -> tuple[State, Metrics]:
        return jax.lax.scan(lambda state, _: step(state, frozen, data), state, length=steps)

    everywhere = sharding.replicated(mesh)
    function = step if steps is None else many
    return jax.jit(function, donate_argnums=0, out_shardings=(everywhere, everywhere))


def _gradients(stage: Stage, remat: str) -> Gradients:
    """The gradient of the loss, for a whole batch at once."""
    if remat not in REMAT:
        raise ValueError(f"remat is {remat!r}; it is one of {', '.join(REMAT)}")
    kept = REMAT[remat]
    loss = stage.loss if kept is None else jax.checkpoint(stage.loss, policy=kept)
    value_and_gradient = jax.value_and_grad(loss, has_aux=True)

    def of_batch(
        state: State, frozen: Tree, model_state: Tree, batch: Batch, key: jax.Array
    ) -> tuple[Tree, Tree, Metrics]:
        (value, (model_state, metrics)), slopes = value_and_gradient(
            state.trained, frozen, model_state, batch, key, state.step
        )
        return slopes, model_state, {**metrics, "loss": value}

    return of_batch


def _in_parts(of_batch: Gradients, name: str, mesh: jax.sharding.Mesh, parts: int) -> Gradients:
    """The same, for the parts of a batch one after the other; see `make_step`."""

    def of_parts(
        state: State, frozen: Tree, model_state: Tree, batch: Batch, key: jax.Array
    ) -> tuple[Tree, Tree, Metrics]:
        _check_divides(name, batch, parts)
        dealt = sharding.split_parts(batch, mesh, parts)
        weights = dealt["labelled"]["mask"].sum(axis=1)
        weights /= jnp.maximum(weights.sum(), 1.0)

        def add(carry: tuple[Tree, Any], given: tuple) -> tuple[tuple[Tree, Any], None]:
            model_state, total = carry
            number, weight, part = given
            part_key = jax.random.fold_in(key, number)
            slopes, model_state, metrics = of_batch(state, frozen, model_state, part, part_key)
            total = jax.tree.map(lambda t, x: t + weight * x, total, (slopes, metrics))
            return (model_state, total), None

        one = jax.tree.map(lambda x: x[0], dealt)
        slopes, _, metrics = jax.eval_shape(of_batch, state, frozen, model_state, one, key)
        nothing = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), (slopes, metrics))
        given = (jnp.arange(parts), weights, dealt)
        (model_state, (slopes, metrics)), _ = jax.lax.scan(add, (model_state, nothing), given)
        return slopes, model_state, metrics

    return of_parts


def _check_divides(name: str, batch: Batch, accumulate: int) -> None:
    for stream, rows in batch.items():
        n = len(rows["mask"])
        if accumulate < 1 or n % accumulate:
            raise ValueError(
                f"stages.{name}.accumulate is {accumulate}, which does not divide the {n} "
                f"{stream} images of a batch; choose a divisor of {n}"
            )


def _running_mean(state: State, values: Tree, decay: float) -> Tree:
    if not decay:
        return {}
    # Shorter at first, so that the initial values are soon forgotten.
    rate = jnp.minimum(decay, (1.0 + state.step) / (10.0 + state.step))
    return jax.tree.map(lambda old, new: rate * old + (1.0 - rate) * new, state.average, values)
