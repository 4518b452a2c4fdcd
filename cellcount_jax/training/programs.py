"""The compiled steps of a stage, their number, and the training window."""

import functools
import math
from collections.abc import Sequence

import jax
import optax
from ml_collections import ConfigDict

from cellcount_jax.data import streaming
from cellcount_jax.data.sample import Sample
from cellcount_jax.methods.base import Stage, Tree
from cellcount_jax.training.input_pipeline import InputPipeline
from cellcount_jax.training.step import State, make_step


def budget(plan: ConfigDict, n: int) -> tuple[int, int]:
    """Number of steps of a stage with `n` labelled images, and steps per epoch."""
    steps_per_epoch = math.ceil(n / plan.batch_size.labelled)
    return (plan.steps or plan.epochs * steps_per_epoch), steps_per_epoch


def training_window(config: ConfigDict, samples: Sequence[Sample], stage: Stage) -> tuple[int, ...]:
    """Sides of the images that a stage is trained on; also the default window of prediction."""
    crop = config.stages[stage.name].crop
    return tuple(crop or streaming.common_side(samples, stage.stride).tolist())


def compile_steps(
    stage: Stage,
    tx: optax.GradientTransformation,
    pipeline: InputPipeline,
    state: State,
    frozen: Tree,
    plan: ConfigDict,
    *,
    seed: int,
    mesh: jax.sharding.Mesh,
) -> dict[int, jax.stages.Compiled]:
    """Compiled programs by number of steps per call: one for a single step, one for several."""
    make = functools.partial(
        make_step,
        stage,
        tx,
        pipeline.sampler,
        mesh,
        seed=seed,
        ema_decay=plan.ema_decay,
        grad_accumulation=plan.grad_accumulation,
        remat=plan.remat,
    )
    sizes = {1, plan.steps_per_call if pipeline.open is None else 1}
    programs = {n: make(steps=None if n == 1 else n) for n in sizes}
    return {n: p.lower(state, frozen, pipeline.data).compile() for n, p in programs.items()}
