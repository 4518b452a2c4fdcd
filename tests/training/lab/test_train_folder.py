import json

import numpy as np
import pytest
from etils import epath

from cellcount_jax import short_trainings
from cellcount_jax.cli import main
from cellcount_jax.data import infer_settings
from cellcount_jax.datasets import folder
from cellcount_jax.inference.counter import Counter
from cellcount_jax.reporting.verdict import verdict
from cellcount_jax.simulation.simulate import write_simulated
from cellcount_jax.training.lab import density, train_folder
from cellcount_jax.training.workdir import WorkdirError

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.fixture
def narrow(monkeypatch):
    """Trains networks of two levels and few channels: these tests are not about the network."""
    real = short_trainings.lab_density

    def config(ndim=2):
        found = real(ndim)
        found.model.channels = (2, 4)
        return found

    monkeypatch.setattr(short_trainings, "lab_density", config)


def test_folds_divide_all_images_that_are_not_for_test(tmp_path):
    write_simulated(tmp_path, 20, seed=1, shape=(32, 32), count=3)
    source = folder.load_folder(tmp_path)
    parts = list(train_folder.cross_validation_parts(source, folds=4))
    tested = [s.name for part in parts for s in part.splits["test"]]
    held_back = {s.name for s in source.splits["test"]}
    assert len(tested) == len(set(tested)) == 16
    assert not held_back & set(tested)
    for part in parts:
        assert {s.name for s in part.splits["train"]} == {
            name for name in tested if name not in {s.name for s in part.splits["test"]}
        }
        assert set(part.splits) == {"train", "test"}


@pytest.mark.parametrize("folds", [1, 21])
def test_numbers_of_folds_that_make_no_sense(tmp_path, folds):
    write_simulated(tmp_path, 6, seed=1, shape=(32, 32), count=3)
    with pytest.raises(
        ValueError, match=f"--folds {folds}: 6 annotated images can be divided into 2 to 6"
    ):
        list(train_folder.cross_validation_parts(folder.load_folder(tmp_path), folds=folds))


@pytest.mark.parametrize("wrong", [["--steps", "0"], ["--steps", "-3"], ["--folds", "21"]])
def test_numbers_that_make_no_sense_are_refused_before_anything_is_trained(tmp_path, wrong, capsys):
    write_simulated(tmp_path, 6, seed=1, shape=(32, 32), count=3)
    assert main.main(["train", str(tmp_path), *wrong]) == 1
    assert f"error: {' '.join(wrong)}: " in capsys.readouterr().err
    assert not (tmp_path / "cellcount").exists()


def test_errors_of_folds_are_pooled_over_images(tmp_path):
    rows = [
        {"mae": 2.0, "bias": 1.0, "tp": 8, "fp": 2, "fn": 0, "n_images": 1},
        {"mae": 5.0, "bias": -2.0, "tp": 4, "fp": 0, "fn": 4, "n_images": 2},
    ]
    for i, row in enumerate(rows):
        (tmp_path / str(i)).mkdir()
        (tmp_path / str(i) / "results.json").write_text(json.dumps(row))
    found = train_folder.pooled(epath.Path(tmp_path), 2)
    assert found["n_images"] == 3
    assert found["mae"] == pytest.approx(4.0)
    assert found["bias"] == pytest.approx(-1.0)
    assert found["f1"] == pytest.approx(2 * 12 / (2 * 12 + 2 + 4))


def test_errors_of_folds_of_a_counter_without_points(tmp_path):
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "results.json").write_text('{"mae": 2.0, "bias": 1.0, "n_images": 1}')
    found = train_folder.pooled(epath.Path(tmp_path), 1)
    assert found == {"folds": 1, "n_images": 1, "mae": 2.0, "bias": 1.0}
    results = {"mae": 1.0, "split": "train", "n_images": 3, "cross_validation": found}
    assert verdict(results)[-1].endswith("MAE 2.0; expect such errors")


@pytest.mark.usefixtures("narrow")
def test_the_command_with_folds(tmp_path, capsys):
    write_simulated(tmp_path, 4, seed=1, shape=(64, 64), count=8)
    command = ["train", str(tmp_path), "--steps", "2", "--folds", "2"]
    assert main.main(command) == 0
    said = capsys.readouterr().out
    assert "cross-validation, 4 images counted by counters that had not seen them" in said
    kept = json.loads((tmp_path / "cellcount" / "cross_validation.json").read_text())
    assert kept["folds"] == 2
    assert main.main(command) == 0  # nothing is trained again
    assert capsys.readouterr().out == said


@pytest.mark.usefixtures("narrow")
def test_the_command_ends_with_3_where_files_were_left_out(tmp_path, capsys):
    write_simulated(tmp_path, 3, seed=1, shape=(32, 32), count=3)
    (tmp_path / "images" / "broken.png").write_bytes(b"no image")
    (tmp_path / "dots" / "broken.csv").write_text("y,x\n1,1\n")
    (tmp_path / "dots" / "strayed.csv").write_text("y,x\n1,1\n")
    command = ["train", str(tmp_path), "--steps", "1"]
    assert main.main(command) == 3
    said = capsys.readouterr()
    assert "files left out, each with its reason in results.json: 2" in said.out
    for name in ("broken.png", "strayed.csv"):
        assert any("left out: " in line and name in line for line in said.err.splitlines())
    kept = json.loads((tmp_path / "cellcount" / "results.json").read_text())
    assert [one["file"] for one in kept["left_out"]] == ["images/broken.png", "dots/strayed.csv"]
    assert main.main(command) == 3  # the finished run is reported again
    for path in ("images/broken.png", "dots/broken.csv", "dots/strayed.csv"):
        (tmp_path / path).unlink()
    assert main.main([*command, "-o", str(tmp_path / "whole")]) == 0


@pytest.mark.usefixtures("narrow")
def test_a_counter_of_volumes_by_the_command(tmp_path):
    write_simulated(tmp_path, 3, seed=2, preset="light_sheet", shape=(16, 48, 48), count=6)
    assert main.main(["train", str(tmp_path), "--steps", "2"]) == 0
    counter = Counter.load(str(tmp_path / "cellcount"))
    volume = np.random.default_rng(0).integers(0, 900, (20, 40, 44)).astype(np.uint16)
    for spacing in ((2.0, 1.0, 1.0), None):
        found = counter.count(volume[..., None], spacing=spacing)
        assert found.points.shape[1] == 3
        assert found.count == len(found.points)
    with pytest.raises(ValueError, match="was trained on volumes, and this is a 2-D image"):
        counter.count(volume[0])


def test_settings_of_the_default_counter():
    found = infer_settings.InferredSettings(
        scale=(1.0, 0.5, 0.5), spacing=10, sigma=1.25, radius=5, crop=(24, 32, 32), channels=1,
        mean_count=9,
    )  # fmt: skip
    config = density.config_for(found, n_train=3)
    assert (config.model.ndim, config.model.channels) == (3, (8, 16, 32))
    assert config.stages.density.steps == 1500
    assert density.config_for(found, n_train=3, steps=7).stages.density.steps == 7
    assert config.preprocessing.normalise == "percentile"
    assert (config.model.gate, config.model.count) == (0.15, "peaks")
    assert short_trainings.lab_density(2).model.count == "integral"


@pytest.mark.usefixtures("narrow")
def test_places_marked_as_no_cell_are_said_and_change_the_loss(tmp_path, caplog):
    write_simulated(tmp_path, 2, seed=1, shape=(64, 64), count=12)
    plain = train_folder.train_folder(tmp_path, epath.Path(tmp_path / "plain"), steps=2)
    assert plain["n_not_cells"] == 0
    (tmp_path / "not_cells").mkdir()
    (tmp_path / "not_cells" / "sim_000000.csv").write_text("y,x\n20,30\n40,10\n")
    with caplog.at_level("INFO"):
        marked = train_folder.train_folder(tmp_path, epath.Path(tmp_path / "marked"), steps=2)
    assert marked["n_not_cells"] == 2
    assert "2 places marked as not a cell: the loss weighs more around them" in caplog.text

    def losses(run):
        lines = (tmp_path / run / "metrics.jsonl").read_text().splitlines()
        return [line["loss"] for line in map(json.loads, lines) if line["split"] == "train"]

    assert losses("marked") > losses("plain")
    with pytest.raises(WorkdirError, match="1 of 2 images or their dots have changed"):
        train_folder.train_folder(tmp_path, epath.Path(tmp_path / "plain"), steps=2)
