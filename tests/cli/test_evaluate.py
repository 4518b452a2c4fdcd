"""`cellcount evaluate`: its files, its page, and its exit code."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from cellcount_jax.cli import main
from cellcount_jax.evaluation.folder import COLUMNS
from cellcount_jax.inference.counter import Counter
from tests.evaluation.made_folder import Bright, make_folder
from tests.reporting.page_reader import Page


@pytest.fixture
def folder(tmp_path):
    return make_folder(tmp_path / "lab")


def run(folder, out, monkeypatch, counter):
    monkeypatch.setattr(Counter, "load", lambda *args, **kwargs: counter)
    return main.main(["evaluate", str(folder), "--model", "some", "-o", str(out), "--radius", "3"])


def test_the_command_writes_a_table_figures_and_a_self_contained_page(
    folder, tmp_path, monkeypatch, capsys
):
    out = tmp_path / "out"
    counter = Bright(density=True, train_names=["images/plate1/a.png@0-1"])
    assert run(folder, out, monkeypatch, counter) == 0
    assert "3 images with 6 cells compared: MAE 0.7 cells per image" in capsys.readouterr().out
    with (out / "evaluation.csv").open() as file:
        table = list(csv.DictReader(file))
    assert tuple(table[0]) == COLUMNS
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
    assert all(page.alt_texts)
    for text in ("plate1", "1 of the 3 images have the names", "GAME 3", "MAPE", "worst"):
        assert text in page.text or text in (out / "evaluation.html").read_text()


def test_the_command_continues_after_a_file_that_fails_and_exits_with_3(
    folder, tmp_path, monkeypatch, capsys
):
    (folder / "images" / "<b>.png").write_bytes(b"")
    (folder / "dots" / "<b>.csv").write_text("y,x\n1,1\n")
    assert run(folder, tmp_path / "out", monkeypatch, Bright(points=False)) == 3
    text = (tmp_path / "out" / "evaluation.html").read_text()
    assert "gives no points" in text
    assert "&lt;b&gt;.png" in text
    assert "<b>.png" not in text
    said = capsys.readouterr().out
    assert "1 failed" in said
    assert "doubts about" not in said


def test_the_command_says_that_there_are_doubts(folder, tmp_path, monkeypatch, capsys):
    exif = Image.Exif()
    exif[274] = 3  # upside down
    Image.open(folder / "images" / "plate2" / "c.png").save(
        folder / "images" / "plate2" / "c.png", exif=exif
    )
    assert run(folder, tmp_path / "out", monkeypatch, Bright()) == 0
    assert "1 doubts about images or dots: see the column remarks" in capsys.readouterr().out


def test_table_and_page_name_the_regions(folder, tmp_path, monkeypatch, capsys):
    (folder / "regions").mkdir()
    mask = np.ones((32, 40), np.uint8)
    mask[:, 20:], mask[26:, 34:] = 2, 0
    Image.fromarray(mask).save(folder / "regions" / "a.png")
    Image.fromarray(mask // 2).save(folder / "regions" / "c.png")
    outline = [[0, 0], [40, 0], [40, 8], [0, 8], [0, 0]]
    feature = {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [outline]},
        "properties": {"name": "<CA1>"},
    }
    (folder / "regions" / "b.geojson").write_text(json.dumps(feature))
    monkeypatch.setattr(Counter, "load", lambda *args, **kwargs: Bright())
    out = tmp_path / "out"
    command = ["evaluate", str(folder), "--model", "some", "-o", str(out), "--radius", "3"]
    assert main.main([*command, "--regions", str(folder / "regions")]) == 0
    assert "3 images with 6 cells compared" in capsys.readouterr().out
    with (out / "evaluation.csv").open() as file:
        table = list(csv.DictReader(file))
    assert tuple(table[0]) == COLUMNS
    names = ["1", "2", "outside"], ["<CA1>", "outside"], ["1", "outside"]
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
