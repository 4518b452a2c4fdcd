"""Columns of the table, and settings given in place of the model's."""

import csv
import dataclasses

import numpy as np
import pytest
from PIL import Image

from cellcount_jax.data.resampling import Resampling
from cellcount_jax.inference.counter import Counter
from cellcount_jax.prediction import counts_csv, predict_files
from tests.inference.made_counters import bright_counter, cells


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(cells((40, 32))).save(path)
    return path


def counted(counter, image, out, **options) -> dict[str, str]:
    assert predict_files.predict_files(counter, [image], out, model="m", **options) == 0
    with (out / "counts.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    return row


def test_a_plain_image_has_no_empty_columns_but_those_of_every_table(image, tmp_path):
    row = counted(bright_counter(), image, tmp_path / "used")
    empty = {name for name, value in row.items() if not value}
    assert empty <= {"remarks"}
    assert not {"depth", "spacing_x", "cells_per_mm2", "roi", "diameter_px"} & set(row)
    every = counted(bright_counter(), image, tmp_path / "all", every_column=True)
    assert tuple(every) == counts_csv.COLUMNS
    assert {k: every[k] for k in row} == row


def test_a_table_of_few_columns_is_resumed_and_grows(image, tmp_path):
    out, counter = tmp_path / "out", bright_counter()
    first = counted(counter, image, out)
    np.save(tmp_path / "v.npy", cells((40, 32), 1)[..., 0])
    assert predict_files.predict_files(counter, [tmp_path / "v.npy"], out, model="m") == 0
    rows = counts_csv.read(out / "counts.csv")
    assert [r["image"] for r in rows] == [str(image), str(tmp_path / "v.npy")]
    assert {k: rows[0][k] for k in first} == first
    assert all(set(counts_csv.COLUMNS) == set(row) for row in rows)


def test_a_threshold_changes_the_points_and_sets_the_table_aside(image, tmp_path):
    out, counter = tmp_path / "out", bright_counter()
    found = counter.count(cells((40, 32)))
    level = counter.stage.readout.threshold
    few, many = (counted(counter, image, out, threshold=t) for t in (1e3, level / 2))
    assert int(few["n_points"]) == 0 < len(found.points) <= int(many["n_points"])
    assert (out / "counts.before-1.csv").exists()


@pytest.mark.parametrize("threshold", [0.0, -1.0, float("nan"), float("inf")])
def test_thresholds_that_make_no_sense(image, tmp_path, threshold):
    with pytest.raises(ValueError, match="threshold"):
        counted(bright_counter(), image, tmp_path / "out", threshold=threshold)


def test_the_diameter_of_a_cell_is_told_where_images_are_brought_to_one_size(image, tmp_path):
    counter: Counter = dataclasses.replace(
        bright_counter(), resampling=Resampling(cell_diameter=8.0)
    )
    estimated = counted(counter, image, tmp_path / "estimated", voxel_size=(1.0, 0.5, 0.5))
    pixels = float(estimated["diameter_px"])
    scale = counter.resampling.scale_for(cells((40, 32)))
    assert pixels == pytest.approx(8.0 / scale, abs=0.06)
    assert float(estimated["diameter_um"]) == pytest.approx(pixels / 2, abs=0.05)
    given = counted(counter, image, tmp_path / "given", diameter=11.0)
    assert given["diameter_px"] == "11.0"
