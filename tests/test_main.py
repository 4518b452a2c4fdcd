"""The researcher's door, as a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import cellcount_jax

ROOT = Path(cellcount_jax.__file__).parent.parent


def run(*flags, raw=None, cwd=ROOT):
    environment = {k: v for k, v in os.environ.items() if k != "CELLCOUNT_RAW_DIR"}
    environment["TFDS_DATA_DIR"] = "/nonexistent/prepared"
    if raw:
        environment["CELLCOUNT_RAW_DIR"] = str(raw)
    command = [sys.executable, "-m", "cellcount_jax.main", *flags]
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=cwd)


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--config=configs/dcl_vgg.py:quik"], "no preset 'quik'"),
        (["--config=configs/dcl_vgg.py:tiny", "--config.model.widht=1"], "width"),
        (["--config=configs/dcl_mbm.py:tiny"], "mbm"),
        (["--config=configs/dcl_vgg.py:tiny", "--mode=predict", "--images=x.png"], "no finished"),
    ],
)
def test_mistakes_end_in_a_clear_line(flags, line, tmp_path):
    done = run(*flags, f"--workdir={tmp_path / 'run'}")
    assert done.returncode != 0
    assert line in done.stderr.strip().splitlines()[-1]


@pytest.mark.slow
def test_without_data_it_trains_on_simulated_cells_and_says_so(tmp_path):
    done = run("--config=configs/dcl_vgg.py:tiny", f"--workdir={tmp_path / 'run'}")
    assert done.returncode == 0, done.stderr
    assert "simulated" in done.stderr
    assert '"dataset_is_fallback": true' in (tmp_path / "run" / "results.json").read_text()
    assert "Simulated cells." in (tmp_path / "run" / "report.html").read_text()
