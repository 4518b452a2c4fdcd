"""The ablation's table and plot, and settings compared without the test split."""

import pytest

from benchmarks.accuracy import consistency_ablation, held_back
from benchmarks.read_config import read_config
from cellcount_jax.training import run
from tests.datasets import sample_sets

RESULTS = {
    "Gaussian": [{"f1": 0.9, "n_points_mae": 8.0, "mae": 3.0}, {"f1": 0.8, "n_points_mae": 6.0}],
    "inverse distance": [{"f1": 0.4, "n_points_mae": 5.0, "mae": 5.0}],
}


def test_table_has_a_row_per_variant_and_no_empty_column():
    head, _, first, second = consistency_ablation.table(RESULTS).splitlines()
    assert head == "| | F1 | MAE by points | MAE of the count |"
    assert first == "| Gaussian | 0.850 ± 0.071 | 7.00 ± 1.41 | 3.00 |"
    assert second == "| inverse distance | 0.400 | 5.00 | 5.00 |"


def test_plot_has_a_bar_per_variant_and_hides_none():
    panels = consistency_ablation.plot(RESULTS).axes
    assert [len(a.patches) for a in panels] == [2, 2, 2]
    assert panels[0].get_xlim()[0] <= 0.4


def test_fields_of_the_command_line_reach_the_config():
    fields = ["model.base_channels=4", "stages.consistency.crop=(32,32)", "model.norm=batch"]
    config = read_config("configs/consistency_vgg.py:tiny", fields)
    assert config.model.base_channels == 4
    assert config.stages.consistency.crop == (32, 32)
    assert config.model.norm == "batch"


def test_settings_are_compared_on_training_images_alone(tmp_path, monkeypatch):
    sample_sets.write("vgg_cells", tmp_path / "raw", 24)
    monkeypatch.setenv("CELLCOUNT_RAW_DIR", str(tmp_path / "raw"))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "prepared"))
    seen = {}

    def train_source(config, workdir, source):
        seen.update(source.splits)
        return {"seed": config.seed, "protocol": source.protocol}

    monkeypatch.setattr(run, "train_source", train_source)
    found = held_back.run("configs/consistency_vgg.py:tiny", 3, [], tmp_path)
    assert found == {"seed": 3, "protocol": "consistency, evaluated on training images"}
    assert {s.name for s in seen["test"]} == {s.name for s in seen["unlabelled"]}

    config = read_config("configs/density_vgg.py:tiny", [])
    everything = run.load_source(config)
    monkeypatch.setattr(run, "load_source", lambda config: everything)
    with pytest.raises(ValueError, match="no training images whose labels are held back"):
        held_back.run("configs/consistency_vgg.py:tiny", 0, [], tmp_path)
