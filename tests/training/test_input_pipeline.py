"""Data that stream from the host train what data on the device train, and resume exactly."""

import dataclasses
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath

from cellcount_jax.data.preprocess import Preprocessing
from cellcount_jax.datasets.load import SplitDataset
from cellcount_jax.methods import build_stages
from cellcount_jax.runtime import checkpoint, run_files, sharding
from cellcount_jax.simulation import simulate
from cellcount_jax.training import input_pipeline, run, trainer
from configs import density_vgg

pytestmark = pytest.mark.usefixtures("quick_compilation")


def source(side: int = 40) -> SplitDataset:
    samples = list(simulate.simulate_dataset(0, 7, (side, side), "vgg"))
    splits = {"train": samples[:5], "validation": samples[5:6], "test": samples[6:]}
    return SplitDataset("simulated", "none", 0, splits, False, "0" * 12, "seven simulated images")


def config(on_device_mib: float):
    config = density_vgg.get_config("tiny")
    config.data.on_device_mib = on_device_mib
    plan = config.stages.density
    plan.crop = (16, 16)
    plan.steps = 8
    plan.contrast = 0.2
    return config


def train(workdir, on_device_mib: float) -> list[dict]:
    run.train_source(config(on_device_mib), epath.Path(workdir), source())
    return run_files.read_metrics(epath.Path(workdir))


def final_weights(workdir) -> list[np.ndarray]:
    folder = epath.Path(workdir) / "checkpoints" / "density"
    return jax.tree.leaves(checkpoint.load_final(folder)[0])


def build(config, stage=None, splits=None, mesh=None) -> input_pipeline.InputPipeline:
    return input_pipeline.build(
        source().splits if splits is None else splits,
        Preprocessing.from_dict(config.preprocessing.to_dict()),
        stage or build_stages(config)[0],
        config.stages.density,
        seed=config.seed,
        mesh=mesh or sharding.data_mesh(),
        on_device_mib=config.data.on_device_mib,
    )


@pytest.fixture(scope="module")
def streamed(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("streamed")
    return workdir, train(workdir, 0)


def test_streamed_losses_are_the_resident_ones(streamed, tmp_path):
    resident = train(tmp_path, 64)
    assert len(resident) == len(streamed[1]) > 4
    for a, b in zip(streamed[1], resident, strict=True):
        assert a.keys() == b.keys()
        if a["split"] == "train":
            assert a["loss"] == pytest.approx(b["loss"], rel=1e-3)


def test_a_killed_streamed_run_resumes_to_the_same_weights(streamed, tmp_path, monkeypatch):
    real, open_manager = trainer.model_selection.error, trainer.checkpoint.open_manager
    calls: list[int] = []
    managers: list = []

    def dies(*args, **options):
        calls.append(1)
        if len(calls) == 2:
            managers[0].wait_until_finished()  # nothing is left to write when it "dies"
            raise KeyboardInterrupt
        return real(*args, **options)

    def opened(folder):
        managers.append(open_manager(folder))
        return managers[-1]

    monkeypatch.setattr(trainer.checkpoint, "open_manager", opened)
    monkeypatch.setattr(trainer.model_selection, "error", dies)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, 0)
    monkeypatch.setattr(trainer.model_selection, "error", real)
    assert train(tmp_path, 0) == streamed[1]
    for a, b in zip(final_weights(streamed[0]), final_weights(tmp_path), strict=True):
        np.testing.assert_array_equal(a, b)


def test_batches_come_placed_from_any_step_and_no_thread_stays():
    opened = build(config(0))
    assert opened.resident is None
    with opened.from_step(0) as given:
        unbroken = [next(given) for _ in range(4)]
    with opened.from_step(2) as given:
        resumed = [next(given) for _ in range(2)]
    for a, b in zip(resumed, unbroken[2:], strict=True):
        jax.tree.map(np.testing.assert_array_equal, a, b)
    shapes = jax.tree.map(lambda x: (x.shape, x.dtype, x.sharding), opened.data)
    assert jax.tree.map(lambda x: (x.shape, x.dtype, x.sharding), unbroken[0]) == shapes
    for thread in threading.enumerate():
        if "grain" in thread.name:
            thread.join(timeout=60)
            assert not thread.is_alive()


def test_sampled_batches_are_equal_augmentation_included():
    pipelines = [build(config(64)), build(config(0))]
    stage, mesh = build_stages(config(0))[0], sharding.data_mesh()
    resident = input_pipeline.to_device(pipelines[0], stage, {}, mesh)
    assert resident.data is not None
    with resident.from_step(3) as a, pipelines[1].from_step(3) as b:
        for step in (3, 4):
            wanted = jax.jit(resident.sampler)(next(a), jnp.int32(step))["labelled"]
            found = jax.jit(pipelines[1].sampler)(next(b), jnp.int32(step))["labelled"]
            assert set(found) == set(wanted)
            for name, value in wanted.items():
                np.testing.assert_allclose(found[name], value, rtol=0, atol=2e-6, err_msg=name)


def test_two_streams_are_read_side_by_side():
    samples = source().splits["train"]
    unlabelled = [dataclasses.replace(s, dots=None) for s in samples]
    two = config(0)
    two.stages.density.batch_size = {"labelled": 2, "unlabelled": 3}
    opened = build(two, splits={"train": samples, "unlabelled": unlabelled})
    with opened.from_step(0) as given:
        batch = next(given)
    assert batch["labelled"]["image"].shape == (2, 16, 16, 3)
    assert batch["unlabelled"]["image"].shape == (3, 16, 16, 3)
    assert "target" not in batch["unlabelled"]


def test_a_stage_that_needs_all_data_says_so():
    stage = dataclasses.replace(build_stages(config(0))[0], finish=lambda v, data: v)
    with pytest.raises(ValueError, match=r"stage density: .*raise config\.data\.on_device_mib"):
        build(config(0), stage)


def test_no_images_is_an_error():
    with pytest.raises(ValueError, match="no labelled images"):
        build(config(64), splits={"train": []})


HOST = """
import sys
import jax
import numpy as np
jax.config.update("jax_enable_preemption_service", False)
jax.distributed.initialize(sys.argv[1], num_processes=2, process_id=int(sys.argv[2]))
from cellcount_jax.training.input_pipeline import BatchLayout
from cellcount_jax.runtime import sharding
from tests.training.test_input_pipeline import config, build
first = 2 * int(sys.argv[2])
assert BatchLayout.of(4, sharding.data_mesh()).rows == [first, first + 1]
two = config(0)
two.stages.density.batch_size.labelled = 4
opened = build(two)
with opened.from_step(1) as given:
    batch = next(given)["labelled"]
assert batch["image"].shape == (4, 16, 16, 3), batch["image"].shape
for shard in batch["image"].addressable_shards:
    np.save(f"{sys.argv[3]}/{shard.index[0].start}.npy", shard.data)
assert np.isfinite(jax.jit(lambda b: b["image"].sum())(batch))
"""


@pytest.mark.slow
def test_two_hosts_read_their_rows_of_the_batch(tmp_path):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "2"}
    hosts = [
        subprocess.Popen(
            [sys.executable, "-c", HOST, address, str(i), str(tmp_path)],
            env=environment,
            cwd=Path(__file__).parents[2],
        )
        for i in range(2)
    ]
    try:
        assert [host.wait(timeout=120) for host in hosts] == [0, 0]
    finally:
        for host in hosts:
            host.kill()
    one = config(0)
    one.stages.density.batch_size.labelled = 4
    with build(one).from_step(1) as given:
        wanted = next(given)["labelled"]["image"]
    found = np.concatenate([np.load(tmp_path / f"{row}.npy") for row in range(4)])
    np.testing.assert_array_equal(found, wanted)
