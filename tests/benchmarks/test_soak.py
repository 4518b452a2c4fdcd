"""What the soak compares: everything but durations."""

import json
import signal
import sys

import numpy as np
import pytest
from etils import epath

from benchmarks.exactness import soak
from cellcount_jax.runtime import checkpoint


def left(folder, *, seconds=1.0, mae=2.0, weight=3.0, row="a,1\n"):
    """What a run might leave."""
    folder.mkdir()
    (folder / ".lock").write_text(str(seconds))
    (folder / "results.json").write_text(json.dumps({"mae": mae, "seconds_train": seconds}))
    (folder / "counts.csv").write_text(row)
    page = f"<tr><td>mae</td><td>{mae}</td></tr><tr><td>seconds_train</td><td>{seconds}</td></tr>"
    (folder / "report.html").write_text(page)
    (folder / "checkpoints" / "a" / "steps" / "2").mkdir(parents=True)
    stage = epath.Path(folder / "checkpoints" / "a")
    checkpoint.save_final(stage, {"w": np.array([weight])}, {"stages": ["a"], "seconds": seconds})
    return soak.content(folder)


@pytest.mark.parametrize(
    ("change", "differ"),
    [
        ({}, []),
        ({"seconds": 9.0}, []),
        ({"mae": 2.1}, ["report.html", "results.json"]),
        ({"weight": 3.1}, ["checkpoints/a"]),
        ({"row": "a,2\n"}, ["counts.csv"]),
    ],
)
def test_all_but_durations_is_compared(tmp_path, change, differ):
    one, other = left(tmp_path / "one"), left(tmp_path / "other", **change)
    assert one.keys() == other.keys()
    assert sorted(name for name in one if one[name] != other[name]) == differ


@pytest.mark.parametrize(("seconds", "wait", "hit"), [(60, 0.1, True), (0, 60.0, False)])
def test_a_stop_tells_whether_it_hit(tmp_path, seconds, wait, hit):
    command = [sys.executable, "-c", f"import time; time.sleep({seconds})"]
    assert soak.stop(command, tmp_path, wait, signal.SIGKILL) == (hit, True)
