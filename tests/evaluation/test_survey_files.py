"""Keys and answers of surveys: what is read, and one line for what is not."""

import json
import re

import pytest

from cellcount_jax.evaluation import survey_files
from cellcount_jax.evaluation.survey import Answer, Question

KEY = {
    "format": "cellcount survey key",
    "version": 1,
    "survey": "abc",
    "questions": [
        {"question": n, "group": group, "prototype": f"{group} 1", "image": "a.png"}
        for n, group in ((1, "cell"), (2, "background"))
    ],
}
ANSWERS = {
    "format": "cellcount survey answers",
    "version": 1,
    "survey": "abc",
    "rater": "Ann",
    "answers": [
        {"question": 2, "shows": "artefact", "ease": 3},
        {"question": 1, "shows": "cell", "ease": 1},
    ],
}


def write(path, content) -> None:
    path.write_text(content if isinstance(content, str) else json.dumps(content))


def read(tmp_path, *files):
    write(tmp_path / "key.json", KEY)
    survey, questions = survey_files.read_key(tmp_path / "key.json")
    paths = []
    for i, content in enumerate(files):
        paths.append(tmp_path / f"a{i}.json")
        write(paths[-1], content)
    return survey_files.read_raters(paths, survey, questions, tmp_path / "key.json")


def test_answers_are_read_whatever_their_order(tmp_path):
    (ann, bob) = read(tmp_path, ANSWERS, {**ANSWERS, "rater": " Bob "})
    assert (ann.name, bob.name) == ("Ann", "Bob")
    assert dict(ann.answers) == {1: Answer("cell", 1), 2: Answer("artefact", 3)}
    survey, questions = survey_files.read_key(tmp_path / "key.json")
    assert survey == "abc"
    assert questions[1] == Question(2, "background", "background 1", "a.png")


def changed(index: int, **fields) -> dict:
    answers = [dict(entry) for entry in ANSWERS["answers"]]
    answers[index] |= fields
    return {**ANSWERS, "answers": answers}


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["[1"], "a0.json: not answers that the page of a survey saved: no JSON"),
        (["[1]"], "a0.json: not answers that the page of a survey saved"),
        ([KEY], "not answers that the page of a survey saved (this is the key"),
        ([{**ANSWERS, "version": 2}], "a0.json: version 2 of its format; this program reads"),
        ([{**ANSWERS, "survey": "xyz"}], "a0.json: answers to survey xyz, but"),
        ([{**ANSWERS, "rater": " "}], "a0.json: no name of the rater"),
        ([{**ANSWERS, "answers": {}}], "a0.json: its answers are not a list"),
        ([{**ANSWERS, "answers": [1]}], "a0.json: its answers are not a list"),
        ([{**ANSWERS, "answers": ANSWERS["answers"][:1]}], "a0.json: no answer to question 1;"),
        ([changed(0, question=7)], "a0.json: question 7 is not in the survey, which has 2"),
        ([changed(0, question=[1])], "a0.json: question [1] is not in the survey"),
        ([changed(0, question=1)], "a0.json: question 1 is answered twice"),
        ([changed(1, shows="dog")], "question 1: shows is 'dog'; it is one of cell, artefact"),
        ([changed(1, ease=4)], "question 1: ease is 4; it is one of 1, 2, 3"),
        ([changed(1, ease=True)], "question 1: ease is True"),
        ([changed(1, shows=None)], "question 1: shows is None"),
        ([ANSWERS, {**ANSWERS, "rater": "ann "}], "a0.json and "),
    ],
)
def test_what_is_wrong_with_answers_is_said_in_one_line(tmp_path, files, message):
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        read(tmp_path, *files)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not the key that `survey make` wrote: no JSON"),
        (ANSWERS, "not the key that `survey make` wrote"),
        ({**KEY, "questions": [{"question": 1}]}, "a damaged key (KeyError('group'))"),
        ({**KEY, "questions": []}, "a damaged key (no questions)"),
        ({**KEY, "questions": [{**KEY["questions"][0], "group": "x"}]}, "unknown group 'x'"),
    ],
)
def test_what_is_wrong_with_a_key_is_said_in_one_line(tmp_path, content, message):
    write(tmp_path / "k.json", content)
    with pytest.raises(ValueError, match=re.escape(message)):
        survey_files.read_key(tmp_path / "k.json")
