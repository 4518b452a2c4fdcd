"""`cellcount evaluate --regions`: rows and errors per region that add up to the image's."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from cellcount_jax.cli import main
from cellcount_jax.evaluation import folder as evaluate_folder
from cellcount_jax.evaluation import summary
from cellcount_jax.inference.counter import Count, Counter
from cellcount_jax.io.pairing import FolderError
from tests.cli.test_evaluate import Bright, Page, folder, rows_of

__all__ = ["folder"]


class Dense(Bright):
    """As `Bright`, and its density is 1 at each bright pixel, half of it counted."""

    def count(self, image, *, spacing=None):
        density = (image[..., 0] >= 200).astype(np.float32) / 2
        points = super().count(image).points
        total = float(density.sum())
        return Count(total, points, np.ones(len(points)), density, {}, 1.0, total)


@pytest.fixture
def marks(folder):
    """Of a: left and right of column 20, the corner is outside; of b: below row 16; none of c."""
    place = folder / "regions"
    place.mkdir()
    mask = np.zeros((32, 40), np.uint8)
    mask[:, :20], mask[:, 20:] = 1, 2
    mask[26:, 34:] = 0
    Image.fromarray(mask).save(place / "a.png")
    below = np.zeros((32, 40), np.uint8)
    below[16:] = 2
    Image.fromarray(below).save(place / "b.png")
    return place


def test_each_region_has_its_own_row(folder, marks):
    rows = rows_of(folder, radius=3.0, regions=marks)
    found = [(r.image[-5:-4], r.roi, r.true, r.predicted, r.error) for r in rows]
    assert found == [
        ("a", "", 3, 4.0, 1.0),
        ("a", "1", 2, 2.0, 0.0),
        ("a", "2", 1, 1.0, 0.0),
        ("a", "outside", 0, 1.0, 1.0),
        ("b", "", 3, 2.0, -1.0),
        ("b", "2", 2, 1.0, -1.0),
        ("b", "outside", 1, 1.0, 0.0),
        ("c", "", 0, 0.0, 0.0),
    ]
    assert [set(r.matches) for r in rows[1:4]] == [{(2, 0, 0)}, {(1, 0, 0)}, {(0, 1, 0)}]
    assert all(r.game == () for r in rows if r.roi)


def test_a_density_is_summed_in_each_region(folder, marks):
    rows = rows_of(folder, Dense(), radius=3.0, regions=marks)
    assert [r.predicted for r in rows] == [2.0, 1.0, 0.5, 0.5, 1.0, 0.5, 0.5, 0.0]


def test_matches_of_regions_add_up_even_where_a_pair_crosses_a_border(folder, tmp_path):
    # Points lie 3 pixels right of their cells: that at column 4 crosses into the second region.
    mask = np.ones((32, 40), np.uint8)
    mask[:, 6:24] = 2
    Image.fromarray(mask).save(tmp_path / "all.png")
    rows = rows_of(folder, Bright(3.0), radius=4.0, regions=tmp_path / "all.png")
    for image in {r.image for r in rows}:
        whole, *parts = (np.array(r.matches) for r in rows if r.image == image)
        np.testing.assert_array_equal(sum(parts), whole)
    one, two = rows[1], rows[2]
    own = summary.FACTORS.index(1.0)
    assert (one.n_points, one.true, one.matches[own]) == (2, 2, (2, 1, 0))
    assert (two.n_points, two.true, two.matches[own]) == (2, 1, (1, 0, 0))


def test_images_alone_make_the_figures_of_all(folder, marks):
    plain = summary.summarise(rows_of(folder, radius=3.0))
    found = summary.summarise(rows_of(folder, radius=3.0, regions=marks))
    parts = found.pop("regions")
    assert found == plain
    assert list(parts) == ["1", "2", "outside"]
    assert (parts["2"]["n_images"], parts["2"]["n_cells"], parts["2"]["mae"]) == (2, 3, 0.5)
    assert parts["outside"]["bias"] == 0.5
    assert parts["2"]["recall"] == pytest.approx(2 / 3)
    json.dumps(parts, allow_nan=False)


def test_table_and_page_name_the_regions(folder, marks, tmp_path, monkeypatch, capsys):
    (marks / "b.png").rename(marks / "c.png")
    outline = [[0, 0], [40, 0], [40, 8], [0, 8], [0, 0]]
    feature = {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [outline]},
        "properties": {"name": "<CA1>"},
    }
    (marks / "b.geojson").write_text(json.dumps(feature))
    monkeypatch.setattr(Counter, "load", lambda *args, **kwargs: Bright())
    out = tmp_path / "out"
    command = ["evaluate", str(folder), "--model", "some", "-o", str(out), "--radius", "3"]
    assert main.main([*command, "--regions", str(marks)]) == 0
    assert "3 images with 6 cells compared" in capsys.readouterr().out
    with (out / "evaluation.csv").open() as file:
        table = list(csv.DictReader(file))
    assert tuple(table[0]) == evaluate_folder.COLUMNS
    names = ["1", "2", "outside"], ["<CA1>", "outside"], ["2", "outside"]
    assert [r["roi"] for r in table] == ["", *names[0], "", *names[1], "", *names[2]]
    assert [(r["true"], r["tp"]) for r in table if r["roi"] == "<CA1>"] == [("0", "0")]
    text = (out / "evaluation.html").read_text()
    page = Page(text)
    assert "Regions" in page.text
    assert "plate1/b.png: <CA1>" in page.text
    assert "<CA1>" not in text
    assert page.images == 2 + 1 + 3
    assert main.main([*command, "--regions", str(tmp_path / "absent")]) == 1
    assert "no such file or folder of regions" in capsys.readouterr().err
    with pytest.raises(FolderError, match="no such file or folder"):
        rows_of(folder, regions=tmp_path / "absent")


def test_a_wrong_file_of_regions_is_an_error_of_its_image_alone(folder, marks):
    Image.fromarray(np.ones((5, 5), np.uint8)).save(marks / "b.png")
    rows = rows_of(folder, regions=marks)
    wrong = [r for r in rows if r.status != "ok"]
    assert [r.image for r in wrong] == ["images/plate1/b.png"]
    assert "5 x 5 pixels does not fit an image of 32 x 40" in wrong[0].status
    assert len(rows) == 6
