"""Records and errors per region, which add up to those of the image."""

import json

import numpy as np
import pytest
from PIL import Image

from cellcount_jax.evaluation.folder import evaluate_folder
from cellcount_jax.evaluation.summary import summarise_folder
from cellcount_jax.inference.readout import Count
from cellcount_jax.io.pairing import FolderError
from tests.evaluation.made_folder import Bright, make_folder


@pytest.fixture
def folder(tmp_path):
    return make_folder(tmp_path / "lab")


def records_of(folder, counter=None, **options):
    return list(evaluate_folder(counter or Bright(), folder, **options))


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


def test_each_region_has_its_own_record(folder, marks):
    records = records_of(folder, radius=3.0, regions=marks)
    found = [(r.name[-5:-4], r.roi, r.true, r.predicted, r.error) for r in records]
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
    assert [set(r.matches.values()) for r in records[1:4]] == [
        {(2, 0, 0)},
        {(1, 0, 0)},
        {(0, 1, 0)},
    ]
    assert all(r.game == () for r in records if r.roi)


def test_a_density_is_summed_in_each_region(folder, marks):
    records = records_of(folder, Dense(), radius=3.0, regions=marks)
    assert [r.predicted for r in records] == [2.0, 1.0, 0.5, 0.5, 1.0, 0.5, 0.5, 0.0]


def test_matches_of_regions_add_up_even_where_a_pair_crosses_a_border(folder, tmp_path):
    # Points lie 3 pixels right of their cells: that at column 4 crosses into the second region.
    mask = np.ones((32, 40), np.uint8)
    mask[:, 6:24] = 2
    Image.fromarray(mask).save(tmp_path / "all.png")
    records = records_of(folder, Bright(3.0), radius=4.0, regions=tmp_path / "all.png")
    for name in {r.name for r in records}:
        whole, *parts = (r for r in records if r.name == name)
        for radius, matches in whole.matches.items():
            np.testing.assert_array_equal(sum(np.array(p.matches[radius]) for p in parts), matches)
    one, two = records[1], records[2]
    assert (one.n_points, one.true, one.matches[4.0]) == (2, 2, (2, 1, 0))
    assert (two.n_points, two.true, two.matches[4.0]) == (2, 1, (1, 0, 0))


def test_figures_of_all_images_do_not_depend_on_regions(folder, marks):
    plain = summarise_folder(records_of(folder, radius=3.0))
    found = summarise_folder(records_of(folder, radius=3.0, regions=marks))
    parts = found.pop("regions")
    assert found == plain
    assert list(parts) == ["1", "2", "outside"]
    assert (parts["2"]["n_images"], parts["2"]["n_cells"], parts["2"]["mae"]) == (2, 3, 0.5)
    assert parts["outside"]["bias"] == 0.5
    assert parts["2"]["recall"] == pytest.approx(2 / 3)
    json.dumps(parts, allow_nan=False)


def test_a_wrong_file_of_regions_fails_its_image_alone(folder, marks):
    Image.fromarray(np.ones((5, 5), np.uint8)).save(marks / "b.png")
    records = records_of(folder, regions=marks)
    wrong = [r for r in records if r.status != "ok"]
    assert [r.name for r in wrong] == ["images/plate1/b.png"]
    assert "5 x 5 pixels does not fit an image of 32 x 40" in wrong[0].status
    assert len(records) == 6


def test_a_missing_file_of_regions_is_an_error(folder, tmp_path):
    with pytest.raises(FolderError, match="no such file or folder of regions"):
        records_of(folder, regions=tmp_path / "absent")
