"""Text files of a run survive kills and hold no NaN."""

import json

import numpy as np
import pytest
from etils import epath

from cellcount_jax.runtime import run_files


def test_numbers_are_finite_or_null(tmp_path):
    path = epath.Path(tmp_path) / "a" / "results.json"
    run_files.write_json(
        path, {"x": float("nan"), "y": np.float32(1.5), "z": [np.inf, np.arange(2)]}
    )
    assert json.loads(path.read_text()) == {"x": None, "y": 1.5, "z": [None, [0, 1]]}
    assert [p.name for p in path.parent.iterdir()] == ["results.json"]


def test_metrics_rewind_to_a_step_and_pass_over_a_torn_line(tmp_path):
    workdir = epath.Path(tmp_path)
    for step in (1, 2, 3):
        run_files.append_metrics(workdir, {"step": step, "stage": "counter", "loss": 1.0 / step})
    run_files.append_metrics(workdir, {"step": 9, "stage": "before", "loss": 0.0})
    with (workdir / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "sta')
    run_files.rewind_metrics(workdir, stage="counter", step=2)
    assert [(m["stage"], m["step"]) for m in run_files.read_metrics(workdir)] == [
        ("counter", 1),
        ("counter", 2),
        ("before", 9),
    ]


@pytest.mark.parametrize(
    "damage", [b"1", b"{}", b"\xff\xfe", b"[" * 100_000, b'{"stage": 1, "step": 1}']
)
def test_damaged_lines_of_metrics_are_left_out_and_said(tmp_path, damage, caplog):
    workdir = epath.Path(tmp_path)
    run_files.append_metrics(workdir, {"step": 1, "stage": "counter"})
    with (tmp_path / "metrics.jsonl").open("ab") as file:
        file.write(damage + b"\n")
    run_files.append_metrics(workdir, {"step": 2, "stage": "counter"})
    run_files.rewind_metrics(workdir, stage="counter", step=2)
    assert [m["step"] for m in run_files.read_metrics(workdir)] == [1, 2]
    assert "metrics.jsonl: 1 damaged lines are left out" in caplog.text


@pytest.mark.parametrize("damage", ['{"a": ', "[1]", "[" * 100_000])
def test_damaged_json_is_named_with_what_to_do(tmp_path, damage):
    path = epath.Path(tmp_path) / "results.json"
    path.write_text(damage)
    with pytest.raises(ValueError, match=r"results\.json: damaged .*restore it from a copy"):
        run_files.read_json(path)
