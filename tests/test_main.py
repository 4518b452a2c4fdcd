"""The research entry point, as a process of its own."""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import cellcount_jax
from tests import conftest

ROOT = Path(cellcount_jax.__file__).parent.parent

ENVIRONMENT = {
    **{k: v for k, v in os.environ.items() if k != "CELLCOUNT_RAW_DIR"},
    **conftest.QUICK_COMPILATION,
    "TFDS_DATA_DIR": "/nonexistent/prepared",
}
"""Of a machine without data."""


def run(*flags):
    command = [sys.executable, "-m", "cellcount_jax.main", *flags]
    return subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, cwd=ROOT)


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--config=configs/dcl_vgg.py:quik"], "no preset 'quik'"),
        (["--config=configs/dcl_vgg.py:tiny", "--config.model.widht=1"], "width"),
        (["--config=configs/dcl_mbm.py:tiny"], "mbm"),
        (["--config=configs/dcl_vgg.py:tiny", "--mode=predict", "--images=x.png"], "no finished"),
    ],
)
def test_errors_are_one_line_that_names_the_cause(flags, line, tmp_path):
    done = run(*flags, f"--workdir={tmp_path / 'run'}")
    assert done.returncode != 0
    assert line in done.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_ends_in_one_line(tmp_path, sent):
    command = [sys.executable, "-m", "cellcount_jax.main", "--config=configs/dcl_vgg.py:tiny"]
    workdir = tmp_path / "run"
    with subprocess.Popen(
        [*command, f"--workdir={workdir}"],
        env=ENVIRONMENT,
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        lines = iter(process.stderr.readline, "")
        assert any("SIMULATED" in line for line in lines)  # data are loaded, training starts
        # Python drops an interrupt that comes while it collects garbage: insist, as a user would.
        while process.poll() is None:
            process.send_signal(sent)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=10)
        rest = process.stderr.read()
    assert process.returncode == 128 + sent, rest
    assert rest.strip().splitlines()[-1] == "stopped; the same command resumes"
    assert "Traceback" not in rest


@pytest.mark.slow
def test_without_data_it_trains_on_simulated_cells_with_a_warning(tmp_path):
    done = run("--config=configs/dcl_vgg.py:tiny", f"--workdir={tmp_path / 'run'}")
    assert done.returncode == 0, done.stderr
    assert "SIMULATED" in done.stderr
    assert '"dataset_is_fallback": true' in (tmp_path / "run" / "results.json").read_text()
    assert "Simulated cells." in (tmp_path / "run" / "report.html").read_text()
