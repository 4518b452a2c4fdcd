"""Scores of a survey against the textbook, a loop over pairs, and the paper's own figures."""

import itertools

import numpy as np
import pytest

from cellcount_jax.evaluation import survey
from cellcount_jax.evaluation.survey import Answer, Question, Rater

FLEISS_1971 = np.array(
    [
        [0, 0, 0, 0, 14],
        [0, 2, 6, 4, 2],
        [0, 0, 3, 5, 6],
        [0, 3, 9, 2, 0],
        [2, 2, 8, 1, 1],
        [7, 7, 0, 0, 0],
        [3, 2, 6, 3, 0],
        [2, 5, 3, 2, 2],
        [6, 5, 2, 1, 0],
        [0, 2, 2, 3, 7],
    ]
)
"""The usual worked example: 14 raters, 10 subjects, 5 categories; kappa 0.210."""


def questions(*groups: str) -> list[Question]:
    return [Question(i + 1, group, f"{group} 1", f"{i}.png") for i, group in enumerate(groups)]


def rater(name: str, shows: str, ease: int | str = 3) -> Rater:
    """From a letter per question, c or a, and one ease or a digit per question."""
    words = {"c": "cell", "a": "artefact"}
    eases = str(ease) if len(str(ease)) > 1 else str(ease) * len(shows)
    return Rater(
        name,
        {
            i + 1: Answer(words[s], int(e))
            for i, (s, e) in enumerate(zip(shows, eases, strict=True))
        },
    )


def test_kappa_and_agreement_of_the_textbook():
    assert survey.percent_agreement(FLEISS_1971) == pytest.approx(0.378, abs=5e-4)
    assert survey.fleiss_kappa(FLEISS_1971) == pytest.approx(0.210, abs=5e-4)


def test_percent_agreement_is_the_share_of_agreeing_pairs():
    answers = np.random.default_rng(0).integers(0, 2, (9, 5))  # questions, raters
    votes = np.stack([(answers == k).sum(axis=1) for k in (0, 1)], axis=1)
    pairs = [row[i] == row[j] for row in answers for i, j in itertools.combinations(range(5), 2)]
    assert survey.percent_agreement(votes) == pytest.approx(np.mean(pairs))


def test_kappa_of_full_and_of_chance_agreement():
    assert survey.fleiss_kappa(np.array([[3, 0], [0, 3]])) == 1
    # Two raters, independent coins: all four pairs of answers equally often.
    assert survey.fleiss_kappa(np.array([[2, 0], [1, 1], [1, 1], [0, 2]])) == pytest.approx(0)
    assert survey.fleiss_kappa(np.array([[3, 0], [3, 0]])) is None
    assert survey.fleiss_kappa(np.array([[1, 0], [0, 1]])) is None
    assert survey.percent_agreement(np.zeros((0, 2), int)) is None


def test_the_figures_of_the_paper_follow_from_one_dissent_in_twelve():
    """12 images of each group, 3 raters: 97.2 % agreement, 91.7 % consensus, worst 67 %."""
    asked = questions(*["cell"] * 12, *["background"] * 12)
    raters = [
        rater("a", "c" * 12 + "a" * 12),
        rater("b", "c" * 12 + "a" * 12),
        rater("d", "c" * 4 + "a" + "c" * 7 + "a" * 12, "3333" + "1" + "3" * 19),
    ]
    found = survey.scores(asked, raters)
    cell, background = found["groups"]["cell"], found["groups"]["background"]
    assert cell["as_claimed"] == pytest.approx(0.9722, abs=1e-4)
    assert cell["all_as_claimed"] == cell["unanimous"] == pytest.approx(11 / 12)
    assert (cell["majority_as_claimed"], cell["lowest"]) == (1.0, 5)
    assert cell["between_raters"] == pytest.approx((11 + 1 / 3) / 12)
    assert cell["ease_mean"] == pytest.approx((11 * 3 + 7 / 3) / 12)
    assert cell["ease_sd"] == pytest.approx(np.std([3] * 11 + [7 / 3], ddof=1))
    assert (background["as_claimed"], background["ease_sd"], background["kappa"]) == (1, 0, None)
    assert [r["as_claimed"] for r in found["raters"]] == pytest.approx([1, 1, 23 / 24])


def test_random_regions_claim_nothing_and_ties_have_no_majority():
    found = survey.scores(questions("random", "background"), [rater("a", "cc"), rater("b", "ac")])
    first, second = found["questions"]
    assert (first["majority"], first["as_claimed"]) == (None, None)
    assert (second["majority"], second["as_claimed"]) == ("cell", 0.0)
    random, every = found["groups"]["random"], found["groups"]["all"]
    assert (random["says_cell"], random["as_claimed"], random["lowest"]) == (0.5, None, None)
    assert (every["says_cell"], every["as_claimed"], every["lowest"]) == (0.75, 0.0, 2)
    assert every["unanimous"] == 0.5
    assert list(found["groups"]) == ["background", "random", "all"]


def test_one_rater_alone_has_no_agreement():
    figures = survey.scores(questions("cell"), [rater("a", "c", 2)])["groups"]["cell"]
    assert (figures["between_raters"], figures["kappa"], figures["ease_sd"]) == (None, None, None)
    assert (figures["as_claimed"], figures["ease_mean"]) == (1.0, 2.0)


def test_of_equally_low_questions_the_hardest_is_named():
    raters = [rater("a", "aa", "32"), rater("b", "aa", "33")]
    assert survey.scores(questions("cell", "cell"), raters)["groups"]["all"]["lowest"] == 2
