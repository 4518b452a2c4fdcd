"""Reports say what their figures mean: every term, and a verdict in sentences."""

import pytest

from cellcount_jax.reporting import evaluation_report, run_report
from cellcount_jax.reporting.verdict import in_words, meaning, terms, verdict

TEST = {"split": "test", "n_images": 90, "mae": 2.0, "baseline_mean_mae": 9.0, "f1": 0.9}


@pytest.mark.parametrize(
    "term",
    [
        *evaluation_report.COUNT_COLUMNS,
        *evaluation_report.POINT_COLUMNS,
        *run_report.BASELINES.values(),
        *run_report.POINT_WORDS,
    ],
)
def test_every_head_of_a_table_is_explained(term):
    assert meaning(term)


def test_terms_with_one_meaning_stand_together_and_unknown_ones_nowhere():
    page = terms(["GAME 0", "GAME 1", "weather"])
    assert page.count("<dt>") == page.count("<dd>") == 1
    assert "<dt>GAME 0, GAME 1</dt>" in page


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({}, ["test split, 90 images: MAE 2.0 cells per image, F1 0.900"]),
        ({"split": "train"}, ["these images were trained on"]),
        ({"n_images": 4}, ["4 images say little"]),
        ({"mae": 9.0}, ["no better than the mean count", "do not use it"]),
        (
            {"split": "train", "cross_validation": {"n_images": 8, "mae": 3.0, "f1": 0.8}},
            ["seen them: MAE 3.0, F1 0.800; expect such errors"],
        ),
        ({"f1": None}, ["cells per image"]),
    ],
)
def test_the_verdict_says_what_may_be_expected(given, says):
    lines = verdict({**TEST, **given})
    assert len(lines) == 1 + bool(given and "f1" not in given)
    assert all(say in " ".join(lines) for say in says)


def test_remarks_and_files_left_out_are_in_the_verdict():
    left_out = [{"file": "b.png", "why": "b.png: is damaged"}]
    lines = verdict({**TEST, "remarks": ["training diverged"], "left_out": left_out})
    assert lines[0] == "training diverged"
    assert lines[1].endswith("1, such as b.png")
    assert verdict({**TEST, "mae": None, "remarks": ["training diverged"]}) == lines[:1]


@pytest.mark.parametrize(
    ("bias", "says"), [(3.0, "3.0 cells too many"), (-3.0, "too few"), (0.1, "cancel")]
)
def test_errors_in_words(bias, says):
    figures = {"n_images": 4, "n_cells": 80, "mae": 3.5, "bias": bias}
    lines = in_words({**figures, "f1": 0.8, "recall": 0.75, "precision": 0.9})
    assert lines[0] == (
        "An image has 20.0 cells on average, and its count is wrong by 3.5 cells on average."
    )
    assert says in lines[1]
    assert lines[2] == "Of 100 cells 75 have a point, and of 100 points 90 lie at a cell."
    assert len(in_words(figures)) == 2
    assert in_words({"n_images": 0}) == ["No image could be compared."]
