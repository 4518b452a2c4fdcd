"""Learning-rate schedules and optimizers."""

import functools
import math
from collections.abc import Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike
from ml_collections import ConfigDict

LAST_STEP = 2**31 - 1

SCHEDULES = ("warm_restarts", "cosine", "constant")
OPTIMIZERS = ("adam", "adamw")


def warm_restarts(
    step: ArrayLike,
    *,
    base: float,
    first_cycle: float,
    multiplier: float = 2,
    floor: float = 0.0,
) -> jax.Array:
    """Cosine learning rate with warm restarts.

    The rate falls from `base` to `floor` along half a cosine and restarts at `base` on the step
    after the cycle's last; the peak stays the same. Exact to float32 rounding up to millions of
    steps: the first step of every cycle is precomputed as an integer.

    Args:
      step: Number of the step, 0-based, of any shape; may be traced.
      base: Learning rate at the start of each cycle.
      first_cycle: Number of steps of the first cycle.
      multiplier: Ratio of the lengths of successive cycles, at least 1.
      floor: Learning rate at the end of a cycle.

    Returns:
      The learning rate, float32, with the shape of `step`.

    Raises:
      ValueError: `first_cycle` is not positive, or `multiplier` is below 1.

    Source: SGDR (ICLR 2017), Eq. 5.
    """
    first_cycle, multiplier = float(first_cycle), float(multiplier)
    if not first_cycle > 0 or not multiplier >= 1:
        raise ValueError(
            f"first_cycle {first_cycle:g} must be positive and multiplier {multiplier:g} at least 1"
        )
    at = jnp.maximum(jnp.asarray(step), 0)
    if multiplier == 1:
        whole = first_cycle.is_integer()
        position = at % int(first_cycle) if whole else at.astype(jnp.float32) % first_cycle
        return _half_cosine(position, first_cycle, base=base, floor=floor)
    begins, early, lengths = _cycles(first_cycle, multiplier)
    cycle = jnp.searchsorted(begins, at.astype(jnp.int32), side="right") - 1
    since = at - jnp.asarray(begins)[cycle].astype(at.dtype)
    position = since.astype(jnp.float32) + jnp.asarray(early)[cycle]
    return _half_cosine(position, jnp.asarray(lengths)[cycle], base=base, floor=floor)


def _cycles(first: float, multiplier: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For every cycle in the int32 range: first integer step, fractional start offset, length."""
    starts, lengths = [0.0], [first]
    while starts[-1] + lengths[-1] < LAST_STEP:
        starts.append(starts[-1] + lengths[-1])
        lengths.append(lengths[-1] * multiplier)
    begins = np.ceil(starts)
    early = (begins - starts).astype(np.float32)
    return begins.astype(np.int32), early, np.array(lengths, np.float32)


def _half_cosine(position: Any, length: Any, *, base: float, floor: float) -> jax.Array:
    """floor + (base - floor) (1 + cos(pi position / length)) / 2, computed as sin^2 of the
    remaining fraction to avoid float32 cancellation near cos = -1."""
    share = (length - jnp.asarray(position, jnp.float32)) / length
    return floor + (base - floor) * jnp.sin(0.5 * jnp.pi * jnp.maximum(share, 0.0)) ** 2


def make_schedule(
    name: Literal["warm_restarts", "cosine", "constant"],
    *,
    base: float,
    steps: int = 0,
    first_cycle: float = 0,
    multiplier: float = 2,
    floor: float = 0.0,
    warmup_steps: int = 0,
) -> optax.Schedule:
    """A learning rate as a function of the 0-based step.

    Args:
      name: `constant`; `cosine`, half a cosine from `base` to `floor` over `steps`, then `floor`;
        or `warm_restarts`.
      base: Highest learning rate.
      steps: Number of steps of the whole training, warm-up included; for `cosine`.
      first_cycle: Number of steps of the first cycle; for `warm_restarts`.
      multiplier: Ratio of the lengths of successive cycles; for `warm_restarts`.
      floor: Lowest learning rate; for both cosine schedules.
      warmup_steps: Number of steps of linear warm-up, step t having (t + 1) / (warmup_steps + 1)
        of `base`; the named schedule begins after that.

    Returns:
      A function from step to learning rate.

    Raises:
      ValueError: No such schedule, or an argument that it needs is missing.
    """
    main: optax.Schedule
    if name == "warm_restarts":
        main = functools.partial(
            warm_restarts, base=base, first_cycle=first_cycle, multiplier=multiplier, floor=floor
        )
        main(0)  # fails on bad settings here, not inside a compiled step
    elif name == "cosine":
        if steps <= warmup_steps:
            raise ValueError(f"schedule 'cosine' needs more steps ({steps}) than {warmup_steps=}")
        length = float(steps - warmup_steps)
        main = functools.partial(_half_cosine, length=length, base=base, floor=floor)
    elif name == "constant":
        main = optax.constant_schedule(base)
    else:
        raise ValueError(f"no schedule {name!r}; there are {SCHEDULES}")
    if not warmup_steps:
        return main
    rise = optax.linear_schedule(base / (warmup_steps + 1), base, warmup_steps)
    return optax.join_schedules([rise, main], [warmup_steps])


def make_optimizer(
    name: Literal["adam", "adamw"],
    schedule: optax.ScalarOrSchedule,
    *,
    weight_decay: float = 0.0,
    clip: float | None = None,
    rates: Mapping[str, float] | None = None,
) -> optax.GradientTransformation:
    """An optimizer of all parameters, biases and normalisation parameters included.

    Args:
      name: `adam` adds weight_decay times the parameter to the gradient (an L2 penalty); `adamw`
        decouples the decay: before its Adam step a parameter is multiplied by
        1 - lr(t) weight_decay. With weight_decay 1 the factor is 1 - lr(t), as in published code
        whose decay equals the learning rate and is not multiplied by it again.
      schedule: Learning rate, or a function from step to learning rate (`make_schedule`).
      weight_decay: See `name`.
      clip: Maximum global norm of the gradient, clipped before the update; None: no clipping.
      rates: Factors of the learning rate by name, for parameters at or below that name in the
        tree.

    Returns:
      A gradient transformation; its state holds only arrays.

    Raises:
      ValueError: No such optimizer.

    Source: Adam (ICLR 2015), decoupled weight decay (ICLR 2019).
    """
    if name not in OPTIMIZERS:
        raise ValueError(f"no optimizer {name!r}; there are {OPTIMIZERS}")
    parts = [] if clip is None else [optax.clip_by_global_norm(clip)]
    if name == "adam" and weight_decay:
        parts.append(optax.add_decayed_weights(weight_decay))
    parts.append(
        optax.adam(schedule) if name == "adam" else optax.adamw(schedule, weight_decay=weight_decay)
    )
    if rates:
        parts.append(_scale_by_name(rates))
    return optax.chain(*parts)


def _scale_by_name(rates: Mapping[str, float]) -> optax.GradientTransformation:
    """Multiplies the updates of parameters at or below a name by its factor."""

    def scaled(path: tuple[Any, ...], update: jax.Array) -> jax.Array:
        names = {getattr(key, "key", None) for key in path}
        return update * math.prod((r for name, r in rates.items() if name in names), start=1.0)

    return optax.stateless(lambda updates, _: jax.tree_util.tree_map_with_path(scaled, updates))


def from_config(
    config: ConfigDict, *, steps: int, steps_per_epoch: int
) -> optax.GradientTransformation:
    """The optimizer of a stage.

    Args:
      config: `optimizer` of the stage's plan, see `defaults.stage`.
      steps: Number of steps of the stage.
      steps_per_epoch: Number of steps per epoch of the stage's labelled stream.
    """
    schedule = make_schedule(
        config.schedule,
        base=config.learning_rate,
        steps=steps,
        first_cycle=config.first_cycle or config.first_cycle_epochs * steps_per_epoch,
        multiplier=config.multiplier,
        floor=config.floor,
        warmup_steps=config.warmup_steps,
    )
    return make_optimizer(
        config.name,
        schedule,
        weight_decay=config.weight_decay,
        clip=config.clip,
        rates=config.rates.to_dict(),
    )
