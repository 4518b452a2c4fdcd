import csv

import pytest

from cellcount_jax import short_trainings
from cellcount_jax.cli import main
from cellcount_jax.data.infer_settings import InferredSettings
from cellcount_jax.simulation.simulate import write_simulated
from cellcount_jax.training.lab import density, prototypes

pytestmark = pytest.mark.usefixtures("quick_compilation")

FOUND = InferredSettings(
    scale=1.0, spacing=14.0, sigma=1.75, radius=7.0, crop=(96, 96), channels=1, mean_count=40.0
)


@pytest.mark.parametrize("n_train", [6, 100])
def test_a_quarter_of_the_steps_is_left_after_the_last_projection_on_the_way(n_train):
    config = prototypes.config_for(FOUND, n_train=n_train)
    plan = config.stages.prototypes
    epochs = plan.steps * plan.batch_size.labelled / n_train
    projections = [n for n in range(1, int(epochs)) if n % config.prototypes.project_every == 0]
    after = 1 - projections[prototypes.PROJECTIONS - 1] / epochs
    assert after == pytest.approx(1 / (prototypes.PROJECTIONS + 1), abs=0.01)
    assert plan.batch_size.labelled == min(32, n_train)


def test_images_are_seen_as_by_the_default_counter():
    config = prototypes.config_for(FOUND, n_train=6, seed=3, steps=8)
    other = density.config_for(FOUND, n_train=6, seed=3, steps=8)
    assert config.preprocessing == other.preprocessing
    assert (config.seed, config.radius, config.model.sigma) == (3, FOUND.radius, FOUND.sigma)
    assert [plan.steps for plan in config.stages.values()] == [8, 8]
    assert config.stages.csrnet.crop == other.stages.density.crop


def test_volumes_are_refused(tmp_path, capsys):
    write_simulated(tmp_path, 2, seed=2, preset="light_sheet", shape=(16, 48, 48), count=6)
    assert main.main(["train", str(tmp_path), "--explain"]) == 1
    assert "error: --explain trains on 2-D images, and these are volumes" in capsys.readouterr().err


def test_unlabelled_images_are_refused(tmp_path, capsys):
    write_simulated(tmp_path, 2, seed=2, shape=(32, 32), count=3)
    assert main.main(["train", str(tmp_path), "--explain", "--unlabelled"]) == 1
    assert "error: --explain learns from dots alone" in capsys.readouterr().err


def test_a_trained_counter_explains_images_of_other_sizes(tmp_path, capsys, monkeypatch):
    def narrow(config):
        short(config)
        config.model.width = 1 / 32

    short = short_trainings.short_csrnet
    monkeypatch.setattr(short_trainings, "short_csrnet", narrow)
    write_simulated(tmp_path / "lab", 3, seed=1, shape=(64, 72), count=8)
    write_simulated(tmp_path / "more", 1, seed=2, shape=(80, 64), count=8)
    assert main.main(["train", str(tmp_path / "lab"), "--explain", "--steps", "2"]) == 0
    assert "F1" not in capsys.readouterr().out  # an eighth of the resolution gives no points
    run, out = tmp_path / "lab" / "cellcount", tmp_path / "explanations"
    images = str(tmp_path / "more" / "images")
    assert main.main(["explain", images, "--model", str(run), "-o", str(out)]) == 0
    assert "1 images explained" in capsys.readouterr().out
    with open(out / "contributions.csv", newline="") as file:
        parts = {row["part"]: float(row["cells"]) for row in csv.DictReader(file)}
    assert main.main(["predict", images, "--model", str(run), "-o", str(tmp_path / "counts")]) == 0
    with open(tmp_path / "counts" / "counts.csv", newline="") as file:
        (counted,) = csv.DictReader(file)
    explained = parts.pop("count")
    assert sum(parts.values()) == pytest.approx(explained, abs=1e-3)
    assert float(counted["count"]) == pytest.approx(explained, abs=0.06)
