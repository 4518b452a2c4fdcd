"""Tables, files and recorded lines of benchmarks."""

import json

import pytest

from benchmarks import output
from benchmarks.accuracy import seeds
from benchmarks.read_config import read_config


def test_a_table_has_a_line_per_row():
    lines = output.markdown(["", "MAE"], [["default", "2.5"], ["other", ""]]).splitlines()
    assert lines == ["| | MAE |", "| --- | --- |", "| default | 2.5 |", "| other | |"]


def test_means_leave_out_what_is_missing():
    assert output.mean_and_sd([1.0, None, 3.0]) == "2.00 ± 1.41"
    assert output.mean_and_sd([2.0], digits=1) == "2.0"
    assert output.mean_and_sd([None]) == "-"


def test_recorded_runs_are_lines_that_are_kept(tmp_path):
    for seed in (0, 1):
        figures = {"mae": 2.5 + seed}
        output.record(
            "x", figures, config="a.py:quick", seed=seed, split_hash="0f", folder=tmp_path
        )
    lines = [json.loads(line) for line in (tmp_path / "x.jsonl").read_text().splitlines()]
    assert [(line["seed"], line["figures"]["mae"]) for line in lines] == [(0, 2.5), (1, 3.5)]
    readme = (output.RESULTS / "README.md").read_text()
    for field in lines[0]:
        assert f"`{field}`" in readme


def test_table_of_seeds():
    about = {"method": "dcl", "dataset": "vgg"}
    results = [{"seed": 0, "mae": 2.0, **about}, {"seed": 1, "mae": 4.0, "f1": 0.5, **about}]
    lines = seeds.table(results).splitlines()
    assert lines[0] == "| | seed 0 | seed 1 | mean | sd |"
    assert lines[2] == "| mae | 2.000 | 4.000 | 3.000 | 1.414 |"


def test_fields_that_a_config_lacks_are_refused():
    with pytest.raises(
        ValueError, match=r"model\.nothing=1: configs/dcl_vgg\.py:tiny has no field"
    ):
        read_config("configs/dcl_vgg.py:tiny", ["model.nothing=1"])
    with pytest.raises(ValueError, match=r"has no field nothing\.depth"):
        read_config("configs/dcl_vgg.py:tiny", ["nothing.depth=1"])


def test_folder_names_tell_runs_apart_and_fit_file_systems():
    fields = [f"prototypes.option_{n}=1" for n in range(30)]
    first = seeds.run_name("configs/dcl_vgg.py:quick", [*fields, "seed=1"])
    second = seeds.run_name("configs/dcl_vgg.py:quick", [*fields, "seed=2"])
    assert first != second
    assert len(f"{first}_seed100".encode()) <= 255
    assert seeds.run_name("configs/dcl_vgg.py:quick", ["a.b=1"]) == "dcl_vgg_quick_a-b-1"
