"""One program on any number of devices and hosts: the same losses, and checkpoints that move."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import fsspec.implementations.memory
import jax
import numpy as np
import pytest
from etils import epath

import cellcount_jax
from cellcount_jax.runtime import checkpoint, distributed, run_files, sharding
from cellcount_jax.training import run
from cellcount_jax.training import workdir as workdirs
from tests import conftest
from tests.datasets import sample_sets
from tests.runtime import device_runs

pytestmark = pytest.mark.usefixtures("quick_compilation")

ROOT = Path(cellcount_jax.__file__).parent.parent


def start(arguments: list[str], **environment: str) -> subprocess.Popen:
    """A Python process on the CPU."""
    return subprocess.Popen(
        [sys.executable, "-m", *arguments],
        env={**os.environ, **conftest.QUICK_COMPILATION, "JAX_PLATFORMS": "cpu", **environment},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: subprocess.Popen) -> str:
    """What it printed; one that failed or hangs is an error."""
    try:
        out, error = process.communicate(timeout=600)
    finally:
        process.kill()  # joined hosts pass over SIGTERM
    assert process.returncode == 0, error[-2000:]
    return out


@pytest.fixture(scope="module")
def eight(tmp_path_factory):
    workdir = epath.Path(tmp_path_factory.mktemp("eight"))
    told = ended(start(["tests.runtime.device_runs", str(workdir)]))
    return workdir, json.loads(told.splitlines()[-1])


@pytest.mark.parametrize("method", device_runs.DEVICES)
def test_losses_are_those_of_one_device_on_several(eight, method):
    found = eight[1]
    assert found["devices"] == 8
    curves = {int(n): np.array(values) for n, values in found["curves"][method].items()}
    assert {n: len(curve) for n, curve in curves.items()} == dict.fromkeys(
        device_runs.DEVICES[method], device_runs.STEPS
    )
    assert curves[1][-1] != curves[1][0]
    for n, curve in curves.items():
        np.testing.assert_allclose(curve, curves[1], rtol=1e-4, err_msg=f"{n} devices")


def test_a_run_stopped_on_eight_devices_is_resumed_on_one(eight, tmp_path, caplog):
    assert jax.device_count() == 1
    workdir, _ = eight
    settings = device_runs.config("density", steps=8)
    before = run_files.read_metrics(workdir)
    assert max(m["step"] for m in before) < 8
    caplog.set_level("INFO", "cellcount_jax")
    moved = run.train_source(settings, workdir, device_runs.source())
    assert "resumed after step 4" in caplog.text
    whole = run.train_source(settings, epath.Path(tmp_path), device_runs.source())
    assert moved["mae"] == pytest.approx(whole["mae"], rel=1e-3)
    assert curve(workdir) == pytest.approx(curve(epath.Path(tmp_path)), rel=1e-4)


def curve(workdir: epath.Path) -> list[float]:
    """Training loss of each epoch."""
    return [m["loss"] for m in run_files.read_metrics(workdir) if m["split"] == "train"]


COMMAND = (
    "cellcount_jax.main",
    "--config=configs/density_vgg.py:tiny",
    "--config.stages.density.steps=20",
    "--config.stages.density.crop=(16, 16)",
    "--config.stages.density.eval_every=2",
    "--config.stages.density.batch_size.labelled=8",
    "--config.data.n_train=16",
)


def test_two_processes_train_as_one(tmp_path):
    """The commands of docs/devices.md, on one machine."""
    sample_sets.write("vgg_cells", tmp_path / "raw", 40)
    environment = {
        "CELLCOUNT_RAW_DIR": str(tmp_path / "raw"),
        "TFDS_DATA_DIR": str(tmp_path / "prepared"),
        "JAX_NUM_CPU_DEVICES": "2",
    }
    one, two = epath.Path(tmp_path / "one"), epath.Path(tmp_path / "two")
    ended(start([*COMMAND, f"--workdir={one}"], **{**environment, "JAX_NUM_CPU_DEVICES": "1"}))
    port = free_port()
    hosts = [
        start(
            [
                *COMMAND,
                f"--workdir={two}",
                f"--coordinator=localhost:{port}",
                "--num_processes=2",
                f"--process_id={number}",
            ],
            **environment,
        )
        for number in range(2)
    ]
    told = [ended(host) for host in hosts]
    assert '"mae"' in told[0]
    assert '"mae"' not in told[1]  # the first host alone talks
    assert len(curve(two)) == len(curve(one)) == 5
    assert curve(two) == pytest.approx(curve(one), rel=1e-4)
    alone, together = (json.loads((w / "results.json").read_text()) for w in (one, two))
    assert together["mae"] == pytest.approx(alone["mae"], rel=1e-3)
    assert together["n_images"] == alone["n_images"] == 20


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("localhost", 0))
        return found.getsockname()[1]


@pytest.mark.parametrize(
    ("coordinator", "processes", "number", "line"),
    [
        ("localhost:1234", None, 0, "go together"),
        (None, 2, 0, "go together"),
        ("localhost", 2, 0, "HOST:PORT"),
        ("localhost:1234", 2, 2, "at least 0 and less than"),
    ],
)
def test_half_told_hosts_are_refused(coordinator, processes, number, line):
    with pytest.raises(ValueError, match=line):
        distributed.join(coordinator, num_processes=processes, process_id=number)


def test_parts_of_a_batch_hold_each_row_once():
    mesh = sharding.mesh_of(jax.devices()[:1])
    rows = np.arange(12).reshape(6, 2)
    dealt = jax.jit(lambda x: sharding.split_parts(x, mesh, 3))(rows)
    np.testing.assert_array_equal(dealt[1], rows[[1, 4]])
    assert sorted(np.asarray(dealt)[..., 0].ravel()) == rows[:, 0].tolist()


class Bucket(fsspec.implementations.memory.MemoryFileSystem):
    """gs:// in memory; as in a bucket, what lies there cannot grow."""

    protocol = ("gcs", "gs")
    store: ClassVar[dict] = {}
    pseudo_dirs: ClassVar[list] = [""]

    @classmethod
    def _strip_protocol(cls, path):
        return "/" + str(path).removeprefix("gs://").strip("/")

    def _open(self, path, mode="rb", **options):
        assert not mode.startswith("a"), f"{path}: appended to"
        return super()._open(path, mode, **options)


def test_text_files_of_a_run_may_lie_in_a_bucket(monkeypatch):
    monkeypatch.setattr(epath.backend.fsspec_backend, "_get_filesystem", lambda _: Bucket())
    workdir = epath.Path("gs://bucket/run")
    settings = device_runs.config("density")
    workdirs.claim(settings, device_runs.source(), workdir, is_lab=False)
    workdirs.check_config(settings, workdir)
    assert workdirs.results_of(workdir) is None
    for step in (1, 2, 3):
        run_files.append_metrics(workdir, {"stage": "density", "step": step, "loss": 0.5})
    run_files.rewind_metrics(workdir, stage="density", step=2)
    assert [m["step"] for m in run_files.read_metrics(workdir)] == [1, 2]
    assert sorted(p.name for p in workdir.iterdir()) == ["config.json", "metrics.jsonl"]
    assert checkpoint.absolute(workdir) == workdir
    run_files.write_json(workdir / "results.json", {"mae": 1.5})
    assert workdirs.results_of(workdir) == {"mae": 1.5}


@pytest.mark.parametrize("folder", ["training", "runtime"])
def test_workdirs_never_meet_os_path(folder):
    for path in (Path(cellcount_jax.__file__).parent / folder).rglob("*.py"):
        lines = [line.strip() for line in path.read_text().splitlines() if "os.path" in line]
        # `checkpoint.absolute` asks for :// first.
        assert not [line for line in lines if "://" not in line], path
