"""`cellcount evaluate`: rows, figures by hand, groups, bad files, and the page."""

import csv
import html.parser
import json
import math

import numpy as np
import pytest
from PIL import Image

from cellcount_jax.cli import main
from cellcount_jax.evaluation import folder as evaluate_folder
from cellcount_jax.evaluation import metrics
from cellcount_jax.evaluation import summary as agreement
from cellcount_jax.evaluation.summary import FACTORS, Row
from cellcount_jax.inference.counter import Count, Counter
from cellcount_jax.io.annotations.dots import Dots, write_dots
from cellcount_jax.io.pairing import FolderError
from cellcount_jax.reporting import evaluation_report


class Bright:
    """Finds every pixel of 200 and more, `shift` pixels to the right; no network."""

    def __init__(self, shift=0.0, *, density=False, points=True, **facts):
        self.shift, self.density, self.points, self.facts = shift, density, points, facts
        self.cell_diameter = None

    def count(self, image, *, spacing=None):
        points = np.argwhere(image[..., 0] >= 200).astype(np.float32)
        points[:, 1] += self.shift
        density = (image[..., 0] >= 200).astype(np.float32) if self.density else None
        kept = points if self.points else None
        scores = np.ones(len(points), np.float32) if self.points else None
        return Count(float(len(points)), kept, scores, density, {}, scale=0.5)


def image(dots, shape=(32, 40)):
    pixels = np.full(shape, 20, np.uint8)
    for y, x in dots:
        pixels[y, x] = 255
    return pixels


@pytest.fixture
def folder(tmp_path):
    """Truth: a has 3 of its 4 bright pixels, b all 2 and one more, c none at all."""
    root = tmp_path / "lab"
    for part in ("images/plate1", "images/plate2", "dots"):
        (root / part).mkdir(parents=True)
    seen = {
        "plate1/a": [(4, 4), (4, 30), (20, 8), (28, 36)],
        "plate1/b": [(8, 8), (16, 20)],
        "plate2/c": [],
    }
    true = {"a": [(4, 4), (4, 30), (20, 8)], "b": [(8, 8), (16, 20), (30, 4)], "c": []}
    for name, dots in seen.items():
        Image.fromarray(image(dots)).save(root / "images" / f"{name}.png")
    for name, dots in true.items():
        found = Dots(np.array(dots, np.float32).reshape(-1, 2), None, None)
        write_dots(root / "dots" / f"{name}.csv", found, format="napari")
    return root


def rows_of(folder, counter=None, **options):
    return list(evaluate_folder.evaluate_folder(counter or Bright(), folder, **options))


def test_rows_hold_counts_matches_and_errors_on_a_grid(folder):
    a, b, c = rows_of(folder, radius=3.0)
    assert [r.image for r in (a, b, c)] == [
        "images/plate1/a.png",
        "images/plate1/b.png",
        "images/plate2/c.png",
    ]
    assert (a.true, a.predicted, a.error, a.n_points) == (3, 4.0, 1.0, 4)
    assert set(a.matches) == {(3, 1, 0)}
    assert set(b.matches) == {(2, 0, 1)}
    assert set(c.matches) == {(0, 0, 0)}
    assert (a.game, b.game, c.game) == ((1.0,) * 4, (1.0,) * 4, (0.0,) * 4)


def test_figures_are_those_of_the_rows(folder):
    found = agreement.summarise(rows_of(folder, radius=3.0))
    assert (found["n_images"], found["n_cells"], found["n_failed"]) == (3, 6, 0)
    assert found["mae"] == pytest.approx(2 / 3)
    assert found["rmse"] == pytest.approx(math.sqrt(2 / 3))
    assert found["mape"] == pytest.approx(100 / 3)  # c has no cell and stays out of it
    assert found["bias"] == pytest.approx(0.0)
    assert found["agreement_high"] == pytest.approx(1.96)  # differences 1, -1, 0
    assert (found["precision"], found["recall"]) == (pytest.approx(5 / 6), pytest.approx(5 / 6))
    assert found["macro_f1"] == pytest.approx((6 / 7 + 4 / 5 + 1) / 3)
    assert list(found["groups"]) == ["plate1", "plate2"]
    assert found["groups"]["plate1"]["mape"] == pytest.approx(100 / 3)
    assert found["groups"]["plate2"]["mape"] is None
    assert found["groups"]["plate2"]["n_images"] == 1
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize("shift", [0.0, 1.1, 2.4, 4.0])
def test_matches_over_the_radius_agree_with_a_direct_calculation(folder, shift):
    rows = rows_of(folder, Bright(shift), radius=2.0)
    found = agreement.summarise(rows)
    assert [one["factor"] for one in found["over_radius"]] == list(FACTORS)
    for one in found["over_radius"]:
        points, dots = [r.points for r in rows], [r.dots for r in rows]
        direct = metrics.localisation(points, dots, radius=2.0 * one["factor"])
        assert {k: one[k] for k in direct if k in one} == {k: direct[k] for k in direct if k in one}
    reached = [one["tp"] for one in found["over_radius"]]
    assert reached == sorted(reached)
    assert reached == [5 if f * 2.0 >= shift else 0 for f in FACTORS]


def test_radius_is_the_trained_one_at_the_scale_of_each_image(folder):
    counter = Bright(config={"radius": 3.0})
    assert rows_of(folder, counter)[0].radius == 6.0  # images were halved
    assert rows_of(folder, counter, radius=4.0)[0].radius == 4.0
    assert rows_of(folder)[0].radius == 10.0


def test_grid_errors_of_densities_feel_where_the_cells_are():
    dots = np.array([[3.0, 3.0], [12.0, 28.0]], np.float32)
    density = np.zeros((8, 16), np.float32)  # half the image's size
    density[1, 1], density[6, 14] = 1, 1
    shape = (16, 32)
    right = agreement.grid_errors(dots, shape, density=density, points=None)
    assert right == (0.0, 0.0, 0.0, 0.0)
    moved = agreement.grid_errors(dots, shape, density=density[:, ::-1], points=None)
    assert moved[:2] == (0.0, 4.0)
    assert agreement.grid_errors(dots, shape, density=None, points=None) == ()
    by_points = agreement.grid_errors(dots, shape, density=None, points=dots[:1])
    assert by_points == (1.0, 1.0, 1.0, 1.0)


def test_bad_images_and_dots_give_rows_and_the_others_go_on(folder):
    (folder / "images" / "broken.png").write_bytes(b"not an image")
    Image.fromarray(image([(3, 3)])).save(folder / "images" / "plain.png")
    Image.fromarray(image([(3, 3)])).save(folder / "images" / "far.png")
    (folder / "dots" / "far.csv").write_text("y,x\n500,3\n")
    Image.fromarray(image([(3, 3)])).save(folder / "images" / "plate2" / "a.png")
    rows = {r.image.removeprefix("images/"): r for r in rows_of(folder)}
    assert rows["broken.png"].status.startswith("error: ")
    assert (rows["plain.png"].status, rows["plain.png"].predicted) == ("no dots", 1.0)
    assert "500" in rows["far.png"].status
    assert "far.csv" in rows["far.png"].status
    assert rows["plate1/b.png"].status == rows["plate2/c.png"].status == "ok"
    for twin in ("plate1/a.png", "plate2/a.png"):
        assert "several images of one name" in rows[twin].status
    found = agreement.summarise(list(rows.values()))
    assert (found["n_images"], found["n_failed"], found["n_without_dots"]) == (2, 4, 1)


def test_groups_of_a_table_go_before_folders(folder):
    (folder / "groups.csv").write_text("image,group\na.png,dim\nplate2/c.png, bright \n")
    assert [r.group for r in rows_of(folder)] == ["dim", "", "bright"]
    (folder / "groups.csv").write_text("image;group\na.png;dim\n")
    with pytest.raises(FolderError, match="columns must be named image and group"):
        rows_of(folder)


def test_without_truth_or_without_one_good_image_it_says_so(folder):
    bad = [Row("x.png", status="error: x.png: it is empty"), Row("y.png", status="no dots")]
    with pytest.raises(ValueError, match=r"no image could be compared; the first: x\.png"):
        agreement.summarise(bad)
    for path in (folder / "dots").iterdir():
        path.unlink()
    with pytest.raises(FolderError, match="no annotations to compare with"):
        rows_of(folder)


class Page(html.parser.HTMLParser):
    """Collects what a page shows and what it would fetch."""

    def __init__(self, text):
        super().__init__()
        self.images, self.fetched, self.text = 0, [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.images += tag == "img" and values["src"].startswith("data:image/png;base64,")
        self.fetched += [v for k, v in attrs if k in ("src", "href") and not v.startswith("data:")]

    def handle_data(self, data):
        self.text += data


def run(folder, out, monkeypatch, counter):
    monkeypatch.setattr(Counter, "load", lambda *args, **kwargs: counter)
    return main.main(["evaluate", str(folder), "--model", "some", "-o", str(out), "--radius", "3"])


def test_command_writes_table_figures_and_a_page_that_stands_alone(
    folder, tmp_path, monkeypatch, capsys
):
    out = tmp_path / "out"
    counter = Bright(density=True, train_names=["images/plate1/a.png@0-1"])
    assert run(folder, out, monkeypatch, counter) == 0
    assert "3 images with 6 cells compared: off by 0.7 cells" in capsys.readouterr().out
    with (out / "evaluation.csv").open() as file:
        table = list(csv.DictReader(file))
    assert tuple(table[0]) == evaluate_folder.COLUMNS
    assert [(r["true"], r["predicted"], r["error"]) for r in table] == [
        ("3", "4.0", "1.0"),
        ("3", "2.0", "-1.0"),
        ("0", "0.0", "0.0"),
    ]
    assert [(r["tp"], r["fp"], r["fn"]) for r in table][:2] == [("3", "1", "0"), ("2", "0", "1")]
    summary = json.loads((out / "evaluation.json").read_text())
    assert summary["n_names_in_training"] == 1
    page = Page((out / "evaluation.html").read_text())
    assert page.images == 2 + 1 + 3  # scatter, agreement, radius, three images
    assert page.fetched == []
    for text in ("plate1", "1 of the 3 images bear the names", "GAME 3", "MAPE", "worst"):
        assert text in page.text or text in (out / "evaluation.html").read_text()


def test_command_goes_on_after_a_bad_file_and_exits_with_1(folder, tmp_path, monkeypatch, capsys):
    (folder / "images" / "<b>.png").write_bytes(b"")
    (folder / "dots" / "<b>.csv").write_text("y,x\n1,1\n")
    assert run(folder, tmp_path / "out", monkeypatch, Bright(points=False)) == 1
    text = (tmp_path / "out" / "evaluation.html").read_text()
    assert "gives no points" in text
    assert "&lt;b&gt;.png" in text
    assert "<b>.png" not in text
    assert "1 failed" in capsys.readouterr().out


@pytest.mark.parametrize(("n", "words"), [(1, ["best"]), (2, ["best", "worst"])])
def test_examples_are_never_shown_twice(n, words):
    rows = [Row(f"{i}", predicted=float(i), dots=np.zeros((0, 2))) for i in range(n)]
    assert list(evaluation_report.examples(rows)) == words


def test_examples_are_the_least_median_and_largest_error():
    errors = [3.0, -9.0, 0.0, 1.0, -2.0]
    rows = [Row(f"{e}", predicted=e + 9, dots=np.zeros((9, 2))) for e in errors]
    chosen = evaluation_report.examples([*rows, Row("bad", status="error: x")])
    assert {word: row.error for word, row in chosen.items()} == {
        "best": 0.0,
        "median": -2.0,
        "worst": -9.0,
    }
