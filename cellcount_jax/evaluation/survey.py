"""What people say about the regions that prototypes point at: agreement, consensus, ease.

Source: the survey of CountXplain (MIDL 2025), whose raters say of each region whether it shows a
cell or an artefact, and how easy that was to tell.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

Shows = Literal["cell", "artefact"]

SHOWS: tuple[Shows, ...] = ("cell", "artefact")
"""Answers to the first question."""

EASE = (1, 2, 3)
"""Answers to the second question, from hard to easy."""

CLAIMS: Mapping[str, Shows | None] = {"cell": "cell", "background": "artefact", "random": None}
"""What a prototype of each group says that its region shows; random regions claim nothing."""


class Question(NamedTuple):
    """A question of the key: number in the page, group of `CLAIMS`, prototype and image."""

    number: int
    group: str
    prototype: str
    image: str


class Answer(NamedTuple):
    """One rater's answer to one question."""

    shows: Shows
    ease: int


class Rater(NamedTuple):
    """A rater's name and answers, by the numbers of the questions."""

    name: str
    answers: Mapping[int, Answer]


def scores(questions: Sequence[Question], raters: Sequence[Rater]) -> dict[str, Any]:
    """Figures of all raters together, for each group of questions and for all of them.

    Args:
      questions: Of the key.
      raters: At least one; each has answered all questions.

    Returns:
      `groups`: for each group that was asked about and for `all`, see `_group`; `raters`: for
      each, `name`, `as_claimed` and `ease_mean`; `questions`: a row for each, see `_row`.
    """
    rows = [_row(question, [r.answers[question.number] for r in raters]) for question in questions]
    groups = {
        group: _group([row for row in rows if row["group"] == group])
        for group in CLAIMS
        if any(row["group"] == group for row in rows)
    }
    return {
        "n_raters": len(raters),
        "groups": groups | {"all": _group(rows)},
        "raters": [_of_rater(rater, questions) for rater in raters],
        "questions": rows,
    }


def _row(question: Question, answers: Sequence[Answer]) -> dict[str, Any]:
    """`question, group, prototype, image`; `cell` and `artefact`, the votes; `majority`, None for
    a tie; `as_claimed`, the share of raters who say what the group claims (None where it claims
    nothing); `ease`, the mean."""
    votes: dict[str, int] = {s: sum(answer.shows == s for answer in answers) for s in SHOWS}
    claim = CLAIMS[question.group]
    tied = votes["cell"] == votes["artefact"]
    return {
        "question": question.number,
        "group": question.group,
        "prototype": question.prototype,
        "image": question.image,
        **votes,
        "majority": None if tied else max(SHOWS, key=lambda shows: votes[shows]),
        "as_claimed": None if claim is None else votes[claim] / len(answers),
        "ease": float(np.mean([answer.ease for answer in answers])),
    }


def _group(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Figures of some questions; None where one is not defined.

    Returns:
      `n_questions`; `says_cell`, the share of all answers; of the questions whose group claims
      something: `as_claimed`, the mean share of raters who say so, `majority_as_claimed`, the
      share of questions whose majority does, `all_as_claimed`, the share where all raters do
      (perfect consensus), and `lowest`, the number of the question with the lowest share (of
      several the hardest); `unanimous`, the share of questions with one answer of all raters;
      `between_raters` and `kappa`, see `percent_agreement` and `fleiss_kappa`; `ease_mean` and
      `ease_sd` over the questions' means.
    """
    votes = np.array([[row[shows] for shows in SHOWS] for row in rows])
    claiming = [row for row in rows if row["as_claimed"] is not None]
    ease = [row["ease"] for row in rows]
    lowest = min(claiming, key=lambda row: (row["as_claimed"], row["ease"]), default=None)
    shares = [row["as_claimed"] for row in claiming]
    majority = [row["majority"] == CLAIMS[row["group"]] for row in claiming]
    return {
        "n_questions": len(rows),
        "says_cell": float(votes[:, 0].sum() / votes.sum()),
        "as_claimed": _mean(shares),
        "majority_as_claimed": _mean(majority),
        "all_as_claimed": _mean([share == 1 for share in shares]),
        "lowest": None if lowest is None else lowest["question"],
        "unanimous": float((votes.max(axis=1) == votes.sum(axis=1)).mean()),
        "between_raters": percent_agreement(votes),
        "kappa": fleiss_kappa(votes),
        "ease_mean": _mean(ease),
        "ease_sd": float(np.std(ease, ddof=1)) if len(ease) > 1 else None,
    }


def _of_rater(rater: Rater, questions: Sequence[Question]) -> dict[str, Any]:
    claims = {q.number: CLAIMS[q.group] for q in questions}
    said = {number: rater.answers[number] for number in claims}
    right = [said[n].shows == claim for n, claim in claims.items() if claim is not None]
    return {
        "name": rater.name,
        "as_claimed": _mean(right),
        "ease_mean": _mean([answer.ease for answer in said.values()]),
    }


def percent_agreement(votes: np.ndarray) -> float | None:
    """Share of the pairs of raters that agree, averaged over questions.

    Args:
      votes: [N, categories] number of raters who chose each, the same sum in every row.

    Returns:
      In 0..1; None with fewer than two raters or no question.
    """
    if len(votes) == 0 or (n := int(votes[0].sum())) < 2:
        return None
    return float(((votes**2).sum(axis=1) - n).mean() / (n * (n - 1)))


def fleiss_kappa(votes: np.ndarray) -> float | None:
    """Agreement between raters beyond that of random answers with the same frequencies.

    Args:
      votes: As for `percent_agreement`.

    Returns:
      1 for full agreement, 0 for that of chance; None where it is not defined: fewer than two
      raters, no question, or all answers the same.

    Source: Fleiss, Measuring nominal scale agreement among many raters, 1971.
    """
    observed = percent_agreement(votes)
    if observed is None:
        return None
    shares = votes.sum(axis=0) / votes.sum()
    by_chance = float((shares**2).sum())
    return None if by_chance == 1 else (observed - by_chance) / (1 - by_chance)


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if len(values) else None
