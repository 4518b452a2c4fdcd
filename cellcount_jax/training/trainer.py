"""Trains the stages of a method one after the other; knows stages, never a method's name."""

import contextlib
import dataclasses
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from ml_collections import ConfigDict

from cellcount_jax.data import trained_on
from cellcount_jax.data.preprocess import Preprocessing
from cellcount_jax.datasets.load import SplitDataset
from cellcount_jax.inference.counter import Counter
from cellcount_jax.inference.model_file import SCHEMA
from cellcount_jax.methods.base import Stage, Tree, Variables
from cellcount_jax.runtime import checkpoint, run_files, sharding
from cellcount_jax.training import (
    divergence,
    input_pipeline,
    model_selection,
    optimizer,
    programs,
    progress,
    warm_start,
)
from cellcount_jax.training.recalibrate import make_recalibration
from cellcount_jax.training.step import State, create_state

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Run:
    """What all stages of a run share.

    Attributes:
      config: Config of the run; the loop reads `seed`, `method`, `radius` and `stages`.
      workdir: Folder of checkpoints and metrics.
      source: The data, split.
      preprocessing: How a file's pixels become the network's input.
      stages: Stages of the method.
      mesh: Mesh of devices.
      start: Trained counter whose weights the first stage starts from; None: random weights.
      advice: What to do if training diverges; `{stage}` is the stage's name.
    """

    config: ConfigDict
    workdir: epath.Path
    source: SplitDataset
    preprocessing: Preprocessing
    stages: tuple[Stage, ...]
    mesh: jax.sharding.Mesh
    start: Counter | None = None
    advice: str = divergence.ADVICE


@dataclasses.dataclass(frozen=True)
class _Job:
    """One stage of a run, ready to take steps."""

    run: Run
    stage: Stage
    steps: int
    steps_per_epoch: int
    pipeline: input_pipeline.InputPipeline
    frozen: Tree
    programs: Mapping[int, jax.stages.Compiled]
    predict: Callable[[Variables, jax.Array], dict[str, jax.Array]]
    manager: ocp.CheckpointManager
    recalibrate: Callable[[Variables], Variables]

    @property
    def plan(self) -> ConfigDict:
        return self.run.config.stages[self.stage.name]

    def predicting(self, state: State) -> Variables:
        """The variables that would be used for prediction if training ended here.

        Recalibrated if configured and passed through `stage.finish`, so that validation scores what
        would be shipped.
        """
        variables = state.variables(self.frozen)
        variables = self.recalibrate(variables) if self.plan.recalibrate else variables
        finish = self.stage.finish
        return variables if finish is None else finish(variables, self.pipeline.resident)

    def counter(self, variables: Variables) -> Counter:
        return Counter(self.stage, variables, self.run.preprocessing, predict=self.predict)

    def next_stop(self, at: int) -> int:
        """The next step to stop at: for validation, or the end of an epoch if the stage asks."""
        epochs = 1 if self.stage.between_epochs is not None else self.plan.eval_every
        return next_stop(at, steps=self.steps, interval=epochs * self.steps_per_epoch)


def fit(run: Run) -> Counter:
    """Trains every stage that is not finished yet and returns the last one's counter.

    Args:
      run: Config, data and folder; resumed if the folder holds checkpoints of this run.

    Raises:
      TrainingError: The loss is no longer finite.
    """
    previous: dict[str, Variables] = {}
    window: tuple[int, ...] | None = None
    for number, stage in enumerate(run.stages):
        folder = _folder(run, stage)
        if stage.halo is None and stage.window is None:
            window = window or programs.training_window(
                run.config, run.source.splits["train"], stage
            )
            stage = dataclasses.replace(stage, window=window)
        if checkpoint.is_finished(folder):
            log.info("stage %s: already finished; loaded from %s", stage.name, folder)
        elif not warm_start.load_stage(run.config, run.stages, stage, folder):
            _fit_stage(run, stage, number, previous)
        previous[stage.name] = Variables.from_tree(checkpoint.load_final(folder)[0])
    return Counter.load(run.workdir)


def _folder(run: Run, stage: Stage) -> epath.Path:
    return run.workdir / "checkpoints" / stage.name


def _fit_stage(run: Run, stage: Stage, number: int, previous: Mapping[str, Variables]) -> None:
    plan = run.config.stages[stage.name]
    pipeline = input_pipeline.build(
        run.source.splits,
        run.preprocessing,
        stage,
        plan,
        seed=run.config.seed,
        mesh=run.mesh,
        on_device_mib=run.config.data.on_device_mib,
    )
    steps, steps_per_epoch = programs.budget(plan, len(run.source.splits["train"]))
    tx = optimizer.from_config(plan.optimizer, steps=steps, steps_per_epoch=steps_per_epoch)
    key = jax.random.fold_in(jax.random.key(run.config.seed), number)
    variables = stage.init(key, pipeline.example, previous)
    if run.start is not None and number == 0:
        variables = warm_start.begin_with(variables, run.start.variables, run.start.name)

    everywhere = sharding.replicated(run.mesh)
    frozen = jax.device_put(variables.frozen, everywhere)
    pipeline = input_pipeline.to_device(pipeline, stage, frozen, run.mesh)
    state = jax.device_put(create_state(variables, tx, ema_decay=plan.ema_decay), everywhere)
    # Closing waits for a save in progress, however the stage ends.
    with contextlib.closing(checkpoint.open_manager(_folder(run, stage))) as manager:
        state, seconds = _resume(run, stage, manager, state)
        began = time.monotonic()
        compiled = programs.compile_steps(
            stage, tx, pipeline, state, frozen, plan, seed=run.config.seed, mesh=run.mesh
        )
        compiling = time.monotonic() - began
        progress.describe(stage.name, variables.trained, compiled[1], steps, compiling)
        job = _Job(
            run=run,
            stage=stage,
            steps=steps,
            steps_per_epoch=steps_per_epoch,
            pipeline=pipeline,
            frozen=frozen,
            programs=compiled,
            predict=sharding.on_this_host(jax.jit(stage.predict)),
            manager=manager,
            recalibrate=make_recalibration(
                stage, pipeline, batches=plan.recalibrate, seed=run.config.seed
            ),
        )
        state, seconds, remarks = _take_steps(job, state, seconds)
        _finish(job, state, {"seconds": seconds, "remarks": remarks})


def _resume(
    run: Run, stage: Stage, manager: ocp.CheckpointManager, fresh: State
) -> tuple[State, float]:
    """The last saved state, or a fresh one, and the seconds trained so far."""
    state, seconds = fresh, 0.0
    found = checkpoint.restore_latest(manager, fresh)
    if found is not None:
        state, seconds = found[0], found[1]["seconds"]
        log.info("stage %s: resumed after step %d", stage.name, int(state.step))
    run_files.rewind_metrics(run.workdir, stage=stage.name, step=int(state.step))
    return state, seconds


def _take_steps(job: _Job, state: State, seconds: float) -> tuple[State, float, list[str]]:
    """Runs to the last step; validates, logs and saves every `eval_every` epochs.

    Returns:
      The last state, the seconds of training, and remarks on how the loss went.
    """
    started = time.monotonic() - seconds
    at = int(state.step)
    interval = job.steps_per_epoch * job.plan.eval_every
    waiting: list[dict[str, jax.Array]] = []
    logged: list[dict[str, float]] = []
    name, advice = job.stage.name, job.run.advice
    losses = divergence.logged_losses(run_files.read_metrics(job.run.workdir), name)
    with job.pipeline.from_step(at) as data, progress.bar(name, job.steps, at) as bar:
        while at < job.steps:
            n = max(n for n in job.programs if n <= job.next_stop(at) - at)
            state, metrics = job.programs[n](state, job.frozen, next(data))
            at += n
            # The metrics of a call are fetched while the next one runs.
            waiting.append(metrics)
            due = at % interval == 0 or at == job.steps
            while len(waiting) > (0 if due else 1):
                values = jax.device_get(waiting.pop(0))
                found = divergence.finite_metrics(name, at, values, job.manager, advice)
                logged += found
                losses += [each["loss"] for each in found]
            bar.advance(logged, n)
            if job.stage.between_epochs is not None and at % job.steps_per_epoch == 0:
                state = _between_epochs(job, state, at // job.steps_per_epoch)
            if due:
                weights = (state.trained, state.model_state)
                divergence.check_weights(name, at, weights, job.manager, advice)
                error = _validate(job, state, at, logged)
                seconds = time.monotonic() - started
                checkpoint.save(job.manager, state, {"seconds": seconds}, validation=error)
                bar.validated(error)
                logged = []
    remarks = divergence.rise(name, losses, advice)
    for line in remarks:
        log.warning("%s", line)
    return state, time.monotonic() - started, remarks


def next_stop(at: int, *, steps: int, interval: int) -> int:
    """The next step after `at` at which to stop: a multiple of `interval`, or the last."""
    return min(steps, (at // interval + 1) * interval)


def _between_epochs(job: _Job, state: State, epoch: int) -> State:
    assert job.stage.between_epochs is not None
    live = Variables(state.trained, job.frozen, state.model_state, state.extras)
    changed = job.stage.between_epochs(live, job.pipeline.resident, epoch)
    return state.continued_with(changed)


def _validate(job: _Job, state: State, at: int, logged: list[dict[str, float]]) -> float:
    """Logs mean training and validation metrics; returns the error for model selection."""
    where = {"step": at, "stage": job.stage.name}
    means = {key: float(np.mean([m[key] for m in logged])) for key in logged[-1]}
    run_files.append_metrics(job.run.workdir, {**where, "split": "train", **means})
    splits = job.run.source.splits
    if not splits.get("validation"):
        return float(-at)  # without validation the last step wins
    counter = job.counter(job.predicting(state))
    error, values = model_selection.error(
        counter, splits["validation"], splits["train"], radius=job.run.config.radius
    )
    run_files.append_metrics(job.run.workdir, {**where, "split": "validation", **values})
    return error


def _finish(job: _Job, state: State, training: Mapping[str, Any]) -> None:
    """Selects the checkpoint, finishes the stage, fits the readout and writes `final/`."""
    job.manager.wait_until_finished()
    best = checkpoint.best_step(job.manager)
    if job.plan.select == "best" and best is not None and best != int(state.step):
        state, _ = checkpoint.restore(job.manager, best, state)
    splits = job.run.source.splits
    counter = model_selection.with_fitted_readout(
        job.counter(job.predicting(state)),
        splits.get("validation") or splits["train"],
        splits["train"],
        radius=job.run.config.radius,
    )
    facts: dict[str, Any] = {
        "schema": SCHEMA,
        "method": job.run.config.method,
        "stage": job.stage.name,
        "stages": [s.name for s in job.run.stages],
        "config": job.run.config.to_dict(),
        "radius": job.run.config.radius,
        "preprocessing": job.run.preprocessing.to_dict(),
        "window": job.stage.window,
        "readout": dataclasses.asdict(counter.stage.readout),
        "resampling": (resampling := job.run.source.resampling).to_dict(),
        "trained_on": trained_on.describe(
            splits["train"], measure_cells=not resampling.fixes_cell_size
        ),
        "train_names": [s.name for s in splits["train"]],
        "step": int(state.step),
        **training,
    }
    checkpoint.save_final(_folder(job.run, job.stage), counter.variables._asdict(), facts)
