"""Remarks of a row, and the file's name in the line on the screen."""

import logging
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from cellcount_jax.prediction.remarks import remarks_of
from tests.inference.made_counters import cells

log = logging.getLogger("cellcount_jax.anything")


def test_remarks_are_without_the_name_and_lines_with_it(caplog):
    with remarks_of(Path("lab/a.tif"), set()) as remarks:
        log.warning("is %s", "dark")
        log.warning("lab/a.tif: has %d scenes", 2)
        log.warning("is dark")
    with remarks_of(Path("lab/a.tif"), None) as again:
        log.warning("is dark")
    assert again == ["is dark"]
    log.warning("is of no file")
    assert remarks == ["is dark", "has 2 scenes"]
    assert caplog.messages == [
        *("lab/a.tif: is dark", "lab/a.tif: has 2 scenes", "is of no file"),
    ]


def test_the_log_names_the_file_of_each_remark_and_says_it_once(counter, tmp_path, caplog):
    path = tmp_path / "black.tif"
    tifffile.imwrite(path, np.zeros((3, 40, 32), np.uint8), imagej=True, metadata={"axes": "TYX"})
    rows = counter.count_files(path, out=tmp_path / "out", model="m")
    text = "is constant (value 0): no cells can be counted"
    assert [row["remarks"] for row in rows] == [text] * 3
    assert [r.getMessage() for r in caplog.records if text in r.getMessage()] == [f"{path}: {text}"]


def test_transparency_that_is_counted_is_not_said_to_be_left_out(counter, tmp_path, caplog):
    grey = cells((40, 32))[..., 0]
    image = np.stack([np.zeros_like(grey)] * 3 + [grey], axis=-1)
    tifffile.imwrite(tmp_path / "a.tif", image, photometric="rgb", extrasamples=["unassalpha"])
    for channels, says in ((["3"], False), (None, True)):
        caplog.clear()
        out = tmp_path / f"out{channels}"
        counter.count_files(tmp_path / "a.tif", out=out, model="m", channels=channels)
        assert ("left out" in caplog.text) == says


def test_transparency_of_a_png_that_varies_is_said(counter, tmp_path):
    grey = cells((40, 32))[..., 0]
    for name, alpha in (("a", grey), ("b", np.full_like(grey, 255))):
        Image.fromarray(np.dstack([grey] * 3 + [alpha])).save(tmp_path / f"{name}.png")
    varies, constant = counter.count_files(tmp_path, out=tmp_path / "out", model="m")
    assert "sample 4 is tagged as transparency and left out" in varies["remarks"]
    assert "transparency" not in constant["remarks"]


def test_what_the_log_says_of_a_file_stands_in_its_row(counter, tmp_path):
    four = np.random.default_rng(0).integers(0, 9, (40, 32, 4)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", four[..., :2], photometric="minisblack", extrasamples=[2])
    tifffile.imwrite(tmp_path / "b.tif", four[..., 0], resolution=(72, 72), resolutionunit="INCH")
    rows = counter.count_files(sorted(tmp_path.glob("*.tif")), out=tmp_path / "out", model="m")
    assert "sample 2 is tagged as transparency" in rows[0]["remarks"]
    assert "its resolution is for printing (352.8 um per pixel)" in rows[1]["remarks"]
    assert rows[1]["spacing_y"] == ""
