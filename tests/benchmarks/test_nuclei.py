"""The table of the nuclei model card: figures of a group, and every held-out group in it."""

import json

import pytest

from benchmarks.accuracy import nuclei as benchmark
from cellcount_jax.inference.counter import Counter
from tests.datasets import sample_sets
from tests.inference.disc_counter import disc_counter


def row(true, predicted, points, diameter, matches):
    keys = ("true", "predicted", "points", "diameter", "matches")
    return dict(zip(keys, (true, predicted, points, diameter, matches), strict=True))


def test_figures_of_a_group():
    rows = [row(10, 12.0, 9, 20.0, (8, 1, 2)), row(4, 3.0, 4, 30.0, (4, 0, 0))]
    found = benchmark.summary(rows)
    assert found["n"] == 2
    assert (found["mae"], found["bias"], found["diameter"]) == (1.5, 0.5, 25.0)
    assert found["mape"] == pytest.approx(100 * (0.2 + 0.25) / 2)
    assert found["points_mape"] == pytest.approx(5.0)
    assert found["f1"] == pytest.approx(2 * 12 / (2 * 12 + 1 + 2))
    table = benchmark.table({"all": found}).splitlines()
    assert len(table) == 3
    assert all(line.count("|") == len(benchmark.COLUMNS) + 2 for line in table)


def test_table_of_a_run_has_every_held_out_group(tmp_path, monkeypatch):
    sample_sets.write("dsb2018", tmp_path / "raw", 12)
    monkeypatch.setenv("CELLCOUNT_RAW_DIR", str(tmp_path / "raw"))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "prepared"))
    data = {"name": "dsb2018", "protocol": "by_size"}
    counter = disc_counter(5.0, config={"data": data, "seed": 0})
    monkeypatch.setattr(Counter, "load", lambda run: counter)
    found = benchmark.evaluate_run(tmp_path)
    assert set(found["by"]) == {"size estimated", "size given"}
    for groups in found["by"].values():
        parts = [part["n"] for key, part in groups.items() if key != "all"]
        assert groups["all"]["n"] == sum(parts) > 0
    json.dumps(found, allow_nan=False)
