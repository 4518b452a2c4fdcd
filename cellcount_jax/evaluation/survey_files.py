"""The files of a survey: the key, which its page does not hold, and the answers of its raters."""

import collections
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cellcount_jax.evaluation.survey import CLAIMS, EASE, SHOWS, Answer, Question, Rater
from cellcount_jax.runtime.path_text import path_text

KEY_FORMAT, ANSWERS_FORMAT = "cellcount survey key", "cellcount survey answers"

VERSION = 1


def read_key(path: Path) -> tuple[str, list[Question]]:
    """The survey's identity and its questions.

    Raises:
      ValueError: No key, or a damaged one.
    """
    key = _read(path, KEY_FORMAT, "the key that `survey make` wrote")
    try:
        questions = [
            Question(int(q["question"]), q["group"], q["prototype"], q["image"])
            for q in key["questions"]
        ]
        survey = str(key["survey"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path_text(path)}: a damaged key ({error!r})") from None
    unknown = sorted({q.group for q in questions} - set(CLAIMS))
    if unknown or not questions:
        said = f"unknown group {unknown[0]!r}" if unknown else "no questions"
        raise ValueError(f"{path_text(path)}: a damaged key ({said})")
    return survey, questions


def read_raters(
    paths: Sequence[Path], survey: str, questions: Sequence[Question], key: Path
) -> list[Rater]:
    """The answers of each rater.

    Args:
      paths: Files that the page saved, one per rater.
      survey: Identity of the survey.
      questions: Of its key.
      key: File of the key, which errors name.

    Raises:
      ValueError: A file holds no answers, those of another survey, too few, or the answers of a
        rater who has another file.
    """
    raters, files = [], dict[str, Path]()
    for path in paths:
        found = _read(path, ANSWERS_FORMAT, "answers that the page of a survey saved")
        if found.get("survey") != survey:
            raise ValueError(
                f"{path_text(path)}: answers to survey {found.get('survey')}, but "
                f"{path_text(key)} is the key of survey {survey}"
            )
        rater = _rater(path, found, [q.number for q in questions])
        name = " ".join(rater.name.casefold().split())
        if name in files:
            raise ValueError(
                f"{path_text(files[name])} and {path_text(path)} are both of rater {rater.name}; "
                "leave one out"
            )
        files[name] = path
        raters.append(rater)
    return raters


def _rater(path: Path, found: Mapping[str, Any], numbers: Sequence[int]) -> Rater:
    name, given = found.get("rater"), found.get("answers")
    if not isinstance(name, str) or not name.strip():
        raise ValueError(f"{path_text(path)}: no name of the rater")
    if not isinstance(given, list) or not all(isinstance(entry, dict) for entry in given):
        raise ValueError(f"{path_text(path)}: its answers are not a list of questions")
    asked = [entry.get("question") for entry in given]
    unknown = [n for n in asked if n not in numbers]
    if unknown:
        raise ValueError(
            f"{path_text(path)}: question {unknown[0]!r} is not in the survey, which has "
            f"{len(numbers)}"
        )
    twice = [n for n, times in collections.Counter(asked).items() if times > 1]
    if twice:
        raise ValueError(f"{path_text(path)}: question {twice[0]} is answered twice")
    missing = ", ".join(str(n) for n in numbers if n not in asked)
    if missing:
        raise ValueError(
            f"{path_text(path)}: no answer to question {missing}; answer it in the page and save "
            "again"
        )
    return Rater(name.strip(), {entry["question"]: _answer(path, entry) for entry in given})


def _answer(path: Path, entry: Mapping[str, Any]) -> Answer:
    for name, choices in (("shows", SHOWS), ("ease", EASE)):
        value = entry.get(name)
        if isinstance(value, bool) or value not in choices:
            raise ValueError(
                f"{path_text(path)}, question {entry['question']}: {name} is {value!r}; it is one "
                f"of {', '.join(map(str, choices))}"
            )
    return Answer(entry["shows"], int(entry["ease"]))


def _read(path: Path, kind: str, what: str) -> dict[str, Any]:
    """A JSON file of that format."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path_text(path)}: not {what}: no JSON ({error})") from None
    given = found.get("format") if isinstance(found, dict) else None
    if given != kind:
        hint = " (this is the key: name it with --key)" if given == KEY_FORMAT else ""
        raise ValueError(f"{path_text(path)}: not {what}{hint}")
    if found.get("version") != VERSION:
        raise ValueError(
            f"{path_text(path)}: version {found.get('version')!r} of its format; this program "
            f"reads version {VERSION}"
        )
    return found
