"""The page of a survey: self-contained, the same by seed, and without a hint of what is asked."""

import base64
import io
import json
import re

import numpy as np
import PIL.Image
import pytest

from cellcount_jax.evaluation import survey_files
from cellcount_jax.io.images.image import Image
from cellcount_jax.reporting import survey
from cellcount_jax.reporting.explanation_report import Subject
from tests.explanation import made_prototypes
from tests.reporting.page_reader import Page


def subjects(n=8, *, shape=(88, 120)):
    samples = [made_prototypes.sample(i, shape=shape, cells=30) for i in range(n)]
    return [
        Subject(f"very_secret_{i}", lambda image=s.image: Image(image), s.dots)
        for i, s in enumerate(samples)
    ]


def fails():
    raise ValueError("not an\nimage")


def data_of(page: str) -> dict:
    return json.loads(re.search(r'<script type="application/json"[^>]*>(.*?)</script>', page)[1])


def pixels_of(question: dict) -> np.ndarray:
    data = question["image"].removeprefix("data:image/png;base64,")
    return np.asarray(PIL.Image.open(io.BytesIO(base64.b64decode(data))))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    out = tmp_path_factory.mktemp("survey")
    failed = survey.write_survey(
        made_prototypes.counter(), subjects(), out, number=12, n_random=4, seed=3
    )
    assert failed == 0
    return out, (out / "survey.html").read_text(), json.loads((out / "key.json").read_text())


def test_page_and_key_belong_together(written):
    out, page, key = written
    data = data_of(page)
    identity, questions = survey_files.read_key(out / "key.json")
    assert data["survey"] == identity == key["survey"]
    assert [q.number for q in questions] == list(range(1, 17))
    for question, row in zip(data["questions"], key["questions"], strict=True):
        box = row["box"]
        size = [box["right"] - box["left"], box["bottom"] - box["top"]]
        assert question["box"][2:] == size
        assert question["box"][:2] == [box["left"], box["top"]]  # shown whole: 88 x 120 < 256
        assert question["size"] == [120, 88]


def test_boxes_of_cells_lie_on_cells_of_the_image_that_is_shown(written):
    _, page, key = written
    bright = {"cell": [], "background": []}
    for question, row in zip(data_of(page)["questions"], key["questions"], strict=True):
        left, top, width, height = question["box"]
        if row["group"] in bright:
            inside = pixels_of(question)[top : top + height, left : left + width]
            bright[row["group"]].append(inside.mean())
    assert len(bright["cell"]) == len(bright["background"]) == 6
    assert min(bright["cell"]) > 150
    assert max(bright["background"]) < 50


def test_the_page_gives_no_hint_of_groups_prototypes_or_images(written):
    _, page, key = written
    data = data_of(page)
    assert set(data) == {"survey", "questions"}
    assert {name for q in data["questions"] for name in q} == {
        *("image", "size", "box", "surroundings")
    }
    shown = re.sub(r'"data:image/png;base64,[^"]*"', "", page)
    hints = [row["image"] for row in key["questions"]] + [key["model"] or "made_model"]
    hints += [row["prototype"] for row in key["questions"] if row["prototype"]]
    assert not [hint for hint in hints if hint in shown]
    # The words of the answers are the only ones that are also names of groups.
    assert "prototype" not in shown
    assert "random" not in shown
    for question in data["questions"]:
        png = PIL.Image.open(io.BytesIO(base64.b64decode(question["image"].partition(",")[2])))
        assert png.info == {}


def test_the_page_fetches_nothing(written):
    _, page, _ = written
    assert Page(page).fetched == []
    addresses = re.findall(r"https?://[^\"' ]*", re.sub(r'"data:[^"]*"', "", page))
    assert addresses == ["http://www.w3.org/2000/svg"]  # a name, not an address
    assert "default-src 'none'" in page


def test_the_same_seed_makes_the_same_page_and_another_seed_another(written, tmp_path):
    _, page, key = written
    for seed in (3, 4):
        survey.write_survey(
            made_prototypes.counter(), subjects(), tmp_path, number=12, n_random=4, seed=seed
        )
        same = (tmp_path / "survey.html").read_text() == page
        assert same == (seed == 3)
    other = json.loads((tmp_path / "key.json").read_text())
    assert other["survey"] != key["survey"]
    assert (tmp_path / "key.before-1.json").exists()


def test_of_a_large_image_a_square_around_the_box_is_shown(tmp_path):
    survey.write_survey(
        made_prototypes.counter(), subjects(2, shape=(640, 320)), tmp_path, number=4
    )
    data = data_of((tmp_path / "survey.html").read_text())
    key = json.loads((tmp_path / "key.json").read_text())
    image = {s.name: s.read().pixels for s in subjects(2, shape=(640, 320))}
    for question, row in zip(data["questions"], key["questions"], strict=True):
        assert question["size"] == [256, 256]
        left, top, width, height = question["box"]
        inside = pixels_of(question)[top : top + height, left : left + width]
        box = row["box"]
        whole = image[row["image"]]
        expected = whole[box["top"] : box["bottom"], box["left"] : box["right"]]
        np.testing.assert_array_equal(inside, expected)


def test_images_that_fail_are_replaced_by_others(tmp_path, caplog):
    bad = [Subject(f"bad{i}", fails) for i in range(3)]
    failed = survey.write_survey(
        made_prototypes.counter(), [*bad, *subjects(3)], tmp_path, number=6
    )
    assert failed == 3
    assert "bad1: not an image" in caplog.text
    with pytest.raises(ValueError, match="not one image could be used"):
        survey.write_survey(made_prototypes.counter(), bad, tmp_path, number=6)


@pytest.mark.parametrize(("number", "n_random"), [(0, 0), (7, 0), (6, -1)])
def test_impossible_numbers_are_refused(tmp_path, number, n_random):
    with pytest.raises(ValueError, match="must be even"):
        survey.write_survey(
            made_prototypes.counter(), subjects(1), tmp_path, number=number, n_random=n_random
        )
