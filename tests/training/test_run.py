"""Which split a run is evaluated on, and which workdirs belong to it."""

from types import SimpleNamespace

import pytest
from etils import epath

from cellcount_jax import defaults
from cellcount_jax.training import run


def source(**splits):
    return SimpleNamespace(splits=splits)


@pytest.mark.parametrize(
    ("asked", "splits", "split"),
    [
        ("test", {"train": [1], "validation": [1], "test": [1]}, "test"),
        ("validation", {"train": [1], "validation": [1], "test": [1]}, "validation"),
        ("validation", {"train": [1], "validation": [], "test": [1]}, "train"),
        ("test", {"train": [1], "validation": [1], "test": []}, "validation"),
    ],
)
def test_the_split_that_is_asked_for_or_the_next_one_with_images(asked, splits, split):
    config = defaults.run("density", evaluate_on=asked)
    assert run.split_to_evaluate(config, source(**splits)) == split


def test_an_unknown_split_is_an_error():
    config = defaults.run("density", evaluate_on="tset")
    with pytest.raises(
        ValueError, match=r"^config\.evaluate_on is 'tset'; it must be one of test,"
    ):
        run.split_to_evaluate(config, source(train=[1]))


def test_a_workdir_belongs_to_one_config(tmp_path):
    workdir, config = epath.Path(tmp_path), defaults.run("density")
    run.claim_workdir(config, workdir)
    run.claim_workdir(config, workdir)
    config.seed = 3
    with pytest.raises(run.WorkdirError, match=r"another config \(seed is 0 there, 3 here\)"):
        run.claim_workdir(config, workdir)


def test_a_workdir_of_another_version_is_an_error(tmp_path):
    workdir, config = epath.Path(tmp_path), defaults.run("density")
    (workdir / "config.json").write_text(
        config.to_json_best_effort()
    )  # as versions before wrote it
    with pytest.raises(run.WorkdirError, match=r"another version .*config schema 1,"):
        run.claim_workdir(config, workdir)
