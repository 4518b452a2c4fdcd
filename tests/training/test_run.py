"""Which part a run is judged by."""

from types import SimpleNamespace

import pytest

from cellcount_jax import defaults
from cellcount_jax.training import run


def source(**parts):
    return SimpleNamespace(splits=parts)


@pytest.mark.parametrize(
    ("asked", "parts", "part"),
    [
        ("test", {"train": [1], "validation": [1], "test": [1]}, "test"),
        ("validation", {"train": [1], "validation": [1], "test": [1]}, "validation"),
        ("validation", {"train": [1], "validation": [], "test": [1]}, "train"),
        ("test", {"train": [1], "validation": [1], "test": []}, "validation"),
    ],
)
def test_the_part_that_is_asked_for_or_one_that_training_saw_more_of(asked, parts, part):
    config = defaults.run("density", evaluate_on=asked)
    assert run.part_to_evaluate(config, source(**parts)) == part


def test_runs_from_before_there_was_a_choice_are_judged_by_their_test_part():
    config = defaults.run("density")
    del config.evaluate_on
    assert run.part_to_evaluate(config, source(train=[1], test=[1])) == "test"


def test_an_unknown_part_is_told_in_one_line():
    config = defaults.run("density", evaluate_on="tset")
    with pytest.raises(ValueError, match=r"^config\.evaluate_on is 'tset'; it is one of test, .*$"):
        run.part_to_evaluate(config, source(train=[1]))
