"""Training end to end on little data: resume equals the unbroken run, failures keep their work."""

import json

import jax
import numpy as np
import pytest
from etils import epath

from cellcount_jax.datasets.load import SplitDataset
from cellcount_jax.inference.counter import Counter
from cellcount_jax.runtime import checkpoint, run_files
from cellcount_jax.simulation import simulate
from cellcount_jax.training import divergence, run, trainer
from cellcount_jax.training.workdir import WorkdirError
from configs import countxplain_vgg, dcl_vgg

pytestmark = pytest.mark.usefixtures("quick_compilation")


def source(side: int = 32) -> SplitDataset:
    samples = list(simulate.simulate_dataset(0, 9, (side, side), "vgg"))
    splits = {"train": samples[:5], "validation": samples[5:7], "test": samples[7:]}
    return SplitDataset("simulated", "none", 0, splits, False, "0" * 12, "nine simulated images")


def config(steps: int):
    config = dcl_vgg.get_config("tiny_pretrained")
    for plan in config.stages.values():
        plan.steps = steps
        plan.crop = None
    return config


def final_weights(workdir: epath.Path, stage: str) -> list[np.ndarray]:
    variables = checkpoint.load_final(workdir / "checkpoints" / stage)[0]
    return jax.tree.leaves(variables)


def strip_times(results: dict) -> dict:
    return {k: v for k, v in results.items() if not k.startswith(("seconds", "images_per"))}


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    workdir = epath.Path(tmp_path_factory.mktemp("unbroken"))
    results = run.train_source(config(7), workdir, source())
    return workdir, results


def test_files_of_a_run(unbroken):
    workdir, results = unbroken
    assert json.loads((workdir / "results.json").read_text()) == results
    wanted = "method dataset protocol split split_hash seed n_images mae rmse bias mape f1 radius"
    assert set(wanted.split()) <= set(results)
    assert {"baseline_mean_mae", "baseline_intensity_mae", "baseline_histogram_mae"} <= set(results)
    page = (workdir / "report.html").read_text()
    assert "data:image/png;base64" in page
    assert "http" not in page.replace("data:image", "")
    lines = run_files.read_metrics(workdir)
    assert {m["stage"] for m in lines} == {"pretrain", "counter", "localizer"}
    moved = [m["offset_moved"] for m in lines if m["stage"] == "counter" and m["split"] == "train"]
    assert all(np.isfinite(moved))
    assert results["stages"] == ["pretrain", "counter", "localizer"]
    assert {m["split"] for m in lines} == {"train", "validation"}


@pytest.mark.parametrize("killed_in", ["counter", "localizer"])
def test_a_killed_run_resumes_to_the_same_result(unbroken, tmp_path, monkeypatch, killed_in):
    workdir = epath.Path(tmp_path)
    real = trainer.model_selection.error
    calls = {"pretrain": 0, "counter": 0, "localizer": 0}

    def dies(counter, samples, train, *, radius):
        calls[counter.stage.name] += 1
        if counter.stage.name == killed_in and calls[killed_in] == 2:
            raise KeyboardInterrupt
        return real(counter, samples, train, radius=radius)

    monkeypatch.setattr(trainer.model_selection, "error", dies)
    with pytest.raises(KeyboardInterrupt):
        run.train_source(config(7), workdir, source())
    monkeypatch.setattr(trainer.model_selection, "error", real)
    results = run.train_source(config(7), workdir, source())
    assert strip_times(results) == strip_times(unbroken[1])
    for stage in calls:
        for a, b in zip(
            final_weights(unbroken[0], stage), final_weights(workdir, stage), strict=True
        ):
            np.testing.assert_array_equal(a, b)
    assert run_files.read_metrics(workdir) == run_files.read_metrics(unbroken[0])


def test_what_is_predicted_is_what_was_validated(unbroken):
    """The window is the size of the training images, in the checkpoint as during training."""
    workdir, results = unbroken
    counter = Counter.load(workdir)
    assert counter.stage.window == (32, 32)
    assert Counter.load(workdir, stage="counter").stage.window == (32, 32)
    counts = [counter.count(s.image).count for s in source().splits["test"]]
    true = [s.count for s in source().splits["test"]]
    assert np.abs(np.subtract(counts, true)).mean() == pytest.approx(results["mae"], rel=1e-5)
    # Images of any other size are cut into these windows, or mirrored up to one.
    assert {w.shape for w in windows_of(counter, (50, 40))} == {(32, 32, 3)}
    assert {w.shape for w in windows_of(counter, (20, 32))} == {(32, 32, 3)}


def test_prototypes_are_validated_as_they_are_delivered(tmp_path):
    """Projected and with refitted weights, though training goes on with those it has."""
    data = source(64)
    run.train_source(countxplain_vgg.get_config("tiny"), epath.Path(tmp_path), data)
    counter = Counter.load(tmp_path)
    errors = [counter.count(s.image).count - s.count for s in data.splits["validation"]]
    lines = run_files.read_metrics(epath.Path(tmp_path))
    said = [m["mae"] for m in lines if (m["stage"], m["split"]) == ("prototypes", "validation")]
    assert np.abs(errors).mean() == pytest.approx(said[-1], rel=1e-4)


def windows_of(counter: Counter, shape: tuple[int, int]) -> list[np.ndarray]:
    prepared = counter.prepare(np.zeros((*shape, 3), np.uint8))
    return [prepared.window(w.read) for w in counter.predictor.cut(prepared.space)]


def test_a_finished_run_gives_its_result_again(unbroken):
    workdir, results = unbroken
    assert run.train_source(config(7), workdir, source()) == results


def test_a_workdir_of_another_config_is_refused_by_name_of_the_field(unbroken):
    with pytest.raises(WorkdirError, match=r"stages\.counter\.steps is 7 there, 8 here"):
        run.train_source(config(8), unbroken[0], source())


@pytest.mark.parametrize(("steps", "what"), [(1, "the weights became"), (40, "became")])
def test_training_that_diverges_stops_with_one_line(tmp_path, steps, what):
    broken = config(steps)
    broken.stages.counter.optimizer.update({"learning_rate": 1e38, "clip": None})
    line = rf"{what}.* by step \d+; nothing was saved yet.*counter\.optimizer\.learning_rate"
    with pytest.raises(divergence.TrainingError, match=line):
        run.train_source(broken, epath.Path(tmp_path), source())


@pytest.mark.parametrize(
    ("losses", "warned"),
    [
        ([1.7, 1.7e10], True),
        ([1.7] * 20 + [1.7e10] * 20, True),
        ([1.7] * 20 + [1.7e10] + [0.1] * 19, False),
        ([1.7, 20.0], False),
        ([0.0, 0.0], False),
        ([3.0], False),
        ([], False),
    ],
)
def test_a_loss_that_rose_is_remarked(losses, warned):
    lines = divergence.rise("counter", losses)
    assert ["stages.counter.optimizer.learning_rate" in line for line in lines] == [True] * warned
    lines = divergence.rise("counter", losses, divergence.LAB_ADVICE)
    assert ["learning_rate" in line for line in lines] == [False] * warned


def test_losses_before_a_stop_count_as_often_as_steps_were_taken():
    train = {"stage": "counter", "split": "train"}
    metrics = [
        {**train, "step": 2, "loss": 3.0},
        {**train, "step": 2, "split": "validation", "mae": 9.0},
        {**train, "step": 5, "loss": 1.0},
        {**train, "step": 7, "stage": "other", "loss": 8.0},
    ]
    assert divergence.logged_losses(metrics, "counter") == [3.0, 3.0, 1.0, 1.0, 1.0]


def test_a_rise_stands_in_the_results_and_the_report(tmp_path, monkeypatch):
    monkeypatch.setattr(divergence, "MAX_RISE", 0.0)
    results = run.train_source(config(4), epath.Path(tmp_path), source(), advice="Try {stage}.")
    (line,) = [each for each in results["remarks"] if each.startswith("stage counter: ")]
    assert "the loss rose from" in line
    assert line.endswith("Try counter.")
    assert line in (tmp_path / "report.html").read_text()
    assert line in (tmp_path / "results.json").read_text()
