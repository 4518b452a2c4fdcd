"""Runs on many devices, in a process of its own: `python -m tests.runtime.device_runs WORKDIR`.

Prints the losses of short trainings on 1 to 8 host devices as JSON, and leaves in WORKDIR a
run that was stopped after its second checkpoint, on all devices.
"""

import json
import os
import sys

if __name__ == "__main__":
    os.environ["JAX_NUM_CPU_DEVICES"] = "8"

import jax
import numpy as np
from etils import epath
from ml_collections import ConfigDict

from cellcount_jax.data.preprocess import Preprocessing
from cellcount_jax.datasets.load import SplitDataset
from cellcount_jax.methods import build_stages
from cellcount_jax.runtime import sharding
from cellcount_jax.simulation import simulate
from cellcount_jax.training import input_pipeline, optimizer, run, trainer
from cellcount_jax.training.step import create_state, make_step
from configs import dcl_vgg, density_vgg

DEVICES = {"counter": (1, 8), "density": (1, 2, 4, 8)}
"""Numbers of devices that each method trains on; `counter` takes four times as long to compile."""

STEPS = 20
BATCH = 8
SIDE = 32


def source(n: int = 20) -> SplitDataset:
    """Simulated images: two to validate on, two to test on, the others to train on."""
    samples = list(simulate.simulate_dataset(0, n, (SIDE, SIDE), "vgg"))
    splits = {"train": samples[4:], "validation": samples[:2], "test": samples[2:4]}
    return SplitDataset("simulated", "none", 0, splits, False, "0" * 12, "simulated images")


def config(method: str, **plan: object) -> ConfigDict:
    """A tiny config of one stage: `counter`, without batch norm, or `density`, with it."""
    if method == "counter":
        found = dcl_vgg.get_config("tiny")
        found.model.depth = 16
        found.localizer.enabled = found.pretrain.enabled = False
    else:
        found = density_vgg.get_config("tiny")
    stage = found.stages[method]
    stage.crop, stage.batch_size.labelled = None, BATCH
    stage.update(plan)
    return found


def losses(method: str, n_devices: int, n_steps: int = STEPS, **options: object) -> list[float]:
    """Loss of each step of a training on some of the devices.

    Args:
      method: See `config`.
      n_devices: How many.
      n_steps: Number of training steps.
      **options: Options of `make_step`.
    """
    settings = config(method)
    (stage,), plan = build_stages(settings), settings.stages[method]
    mesh = sharding.mesh_of(jax.devices()[:n_devices])
    pipeline = input_pipeline.build(
        source().splits,
        Preprocessing.from_dict(settings.preprocessing.to_dict()),
        stage,
        plan,
        seed=0,
        mesh=mesh,
        on_device_mib=100,
    )
    pipeline = input_pipeline.to_device(pipeline, stage, {}, mesh)
    tx = optimizer.from_config(plan.optimizer, steps=n_steps, steps_per_epoch=2)
    state = create_state(stage.init(jax.random.key(0), pipeline.example, {}), tx)
    state = jax.device_put(state, sharding.replicated(mesh))
    step = make_step(stage, tx, pipeline.sampler, mesh, seed=0, **options)
    found: list[float] = []
    while len(found) < n_steps:
        state, metrics = step(state, {}, pipeline.data)
        found += np.atleast_1d(metrics["loss"]).tolist()  # waits: unblocked steps may deadlock
    return found


class StoppedError(Exception):
    """In the place of a kill."""


def stopped_run(workdir: epath.Path, settings: ConfigDict) -> None:
    """A run of `settings` that ends when it is about to validate for the third time."""
    real, calls = trainer.model_selection.error, []

    def error(*arguments, **named):
        calls.append(1)
        if len(calls) == 3:
            raise StoppedError
        return real(*arguments, **named)

    trainer.model_selection.error = error
    try:
        run.train_source(settings, workdir, source())
    except StoppedError:
        return
    finally:
        trainer.model_selection.error = real


def main() -> None:
    curves = {
        method: {n: losses(method, n) for n in numbers} for method, numbers in DEVICES.items()
    }
    stopped_run(epath.Path(sys.argv[1]), config("density", steps=8))
    print(json.dumps({"devices": jax.device_count(), "curves": curves}))


if __name__ == "__main__":
    main()
