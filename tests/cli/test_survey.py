"""`cellcount survey`: from images to a page, and from answers to scores."""

import csv
import json

import pytest
from PIL import Image

from cellcount_jax.cli import main
from cellcount_jax.inference.counter import Counter
from tests.explanation import made_prototypes


@pytest.fixture
def made(tmp_path, monkeypatch, capsys):
    """A folder with a survey of 8 questions."""
    monkeypatch.setattr(Counter, "load", lambda *args, **kwargs: made_prototypes.counter())
    (tmp_path / "images").mkdir()
    for i in range(4):
        Image.fromarray(made_prototypes.sample(i).image).save(tmp_path / "images" / f"p{i}.png")
    command = ["survey", "make", str(tmp_path / "images"), "--model", "some", "-n", "6"]
    assert main.main([*command, "--random", "2", "-o", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert "8 questions" in printed
    assert "key.json tells what the questions are about" in printed
    return tmp_path


def answer(folder, name, *, wrong=()):
    """The file of a rater who answers as the key has it but for some questions."""
    key = json.loads((folder / "out" / "key.json").read_text())
    right = {"cell": "cell", "background": "artefact", "random": "artefact"}
    other = {"cell": "artefact", "artefact": "cell"}
    answers = []
    for row in key["questions"]:
        shows = right[row["group"]]
        shows = other[shows] if row["question"] in wrong else shows
        answers.append({"question": row["question"], "shows": shows, "ease": 3})
    content = {"format": "cellcount survey answers", "version": 1, "survey": key["survey"]}
    path = folder / f"answers_{name}.json"
    path.write_text(json.dumps({**content, "rater": name, "answers": answers}))
    return str(path)


def test_make_then_score(made, capsys):
    key = json.loads((made / "out" / "key.json").read_text())
    number = next(row["question"] for row in key["questions"] if row["group"] == "cell")
    files = [answer(made, "ann"), answer(made, "bob"), answer(made, "cho", wrong=[number])]
    command = ["survey", "score", *files, "--key", str(made / "out" / "key.json")]
    assert main.main([*command, "-o", str(made / "out")]) == 0
    printed = capsys.readouterr().out
    assert "3 raters, 8 questions" in printed
    assert f"lowest: question {number} (cell " in printed
    lines = {line.split()[0]: line for line in printed.splitlines() if line}
    assert "88.9 %" in lines["cell"]
    assert "100.0 %" in lines["background"]
    found = json.loads((made / "out" / "scores.json").read_text())
    assert found["groups"]["cell"]["as_claimed"] == pytest.approx(8 / 9)
    assert found["survey"] == key["survey"]
    with (made / "out" / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["question"] for row in rows] == [str(i + 1) for i in range(8)]
    assert rows[number - 1]["artefact"] == "1"


def test_user_errors_print_one_line(made, capsys):
    key = str(made / "out" / "key.json")
    for command, message in (
        (["score", key, "--key", key], "(this is the key: name it with --key)"),
        (["score", "none.json", "--key", key], "No such file"),
        (["make", str(made / "images"), "--model", "some", "-n", "5"], "must be even"),
        (["make", str(made / "images"), "--model", "some", "-n", "100"], "give more images"),
    ):
        capsys.readouterr()
        assert main.main(["survey", *command, "-o", str(made / "x")]) == 1
        errors = [line for line in capsys.readouterr().err.splitlines() if "error: " in line]
        assert len(errors) == 1
        assert message in errors[0]


def test_make_goes_on_without_images_that_fail_and_exits_with_3(made):
    (made / "images" / "p9.png").write_text("no image")
    command = ["survey", "make", str(made / "images"), "--model", "some", "-n", "6"]
    assert main.main([*command, "-o", str(made / "other")]) == 3
    assert (made / "other" / "survey.html").exists()
