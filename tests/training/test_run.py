"""Which split a run is evaluated on, and which workdirs belong to it."""

from types import SimpleNamespace

import pytest

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
