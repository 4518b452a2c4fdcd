"""Explanations as files: a self-contained page, tables that sum to the count, maps."""

import csv
import dataclasses

import numpy as np
import pytest
import tifffile
from PIL import Image

from cellcount_jax.explanation import prototypes
from cellcount_jax.reporting import explanation_report, prototype_figures
from tests.explanation import made_prototypes


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Two good files, one too small and one that is no image."""
    folder = tmp_path_factory.mktemp("explained")
    for i in range(2):
        Image.fromarray(made_prototypes.sample(i).image).save(folder / f"p{i}.png")
    Image.fromarray(np.zeros((5, 30, 3), np.uint8)).save(folder / "small.png")
    (folder / "text.png").write_text("no image")
    counter = dataclasses.replace(made_prototypes.counter(), name="<made>")
    paths = [folder / f"{n}.png" for n in ("p0", "small", "text", "p1")]
    subjects = explanation_report.subjects_of_files(paths)
    failed = explanation_report.write_explanations(counter, subjects, folder / "out")
    return counter, folder / "out", failed


def read(path) -> list[dict]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_files_that_cannot_be_explained_do_not_stop_the_others(written):
    _, out, failed = written
    assert failed == 2
    page = (out / "explanation.html").read_text()
    assert page.count("class=warning>error:") == 2
    assert "smaller than one position" in page


def test_the_page_contains_its_images(written):
    _, out, _ = written
    page = (out / "explanation.html").read_text()
    assert page.count("data:image/png;base64") == 2 + 2 * 2
    assert "http" not in page.replace("data:image", "")
    assert "&lt;made&gt;" in page
    assert "training image 3" in page
    assert "not projected" in page
    assert {p.name for p in out.glob("*.png")} == {"gallery.png", "space.png"}


def test_the_table_sums_to_the_count_of_each_image(written):
    counter, out, _ = written
    rows = read(out / "contributions.csv")
    for i in range(2):
        own = {r["part"]: float(r["cells"]) for r in rows if r["image"] == f"p{i}"}
        count = counter.count(made_prototypes.sample(i).image).count
        assert own.pop("count") == pytest.approx(count, abs=0.01)
        assert sum(own.values()) == pytest.approx(count, abs=0.01)


def test_maps_and_boxes_are_those_of_the_explanation(written):
    counter, out, _ = written
    found = prototypes.explain(counter, made_prototypes.sample(1).image)
    for kind in ("similarity", "contribution"):
        channels = tifffile.imread(out / "maps" / f"p1_{kind}.tif")
        np.testing.assert_array_equal(channels, np.moveaxis(getattr(found, kind), -1, 0))
    boxes = [r for r in read(out / "boxes.csv") if (r["image"], r["part"]) == ("p1", "cell 1")]
    numbers = [[int(r[k]) for k in ("top", "left", "bottom", "right")] for r in boxes]
    assert numbers == found.boxes[0].tolist()


def test_samples_show_their_dots(tmp_path):
    sample = made_prototypes.sample()
    subjects = explanation_report.subjects_of_samples([sample])
    counter = made_prototypes.counter()
    assert explanation_report.write_explanations(counter, subjects, tmp_path) == 0
    assert "12 annotated" in (tmp_path / "explanation.html").read_text()


def test_patches_are_shown_as_they_were_before_normalisation():
    counter = made_prototypes.counter()
    patches = np.linspace(0, 1, 48).reshape(4, 4, 3)
    normal = counter.preprocessing
    shown = prototype_figures.as_seen((patches - 0.0) / 1.0, normal)
    np.testing.assert_allclose(shown, np.clip(patches / np.percentile(patches, 99.8), 0, 1))
    assert prototype_figures.as_seen(patches[..., :1], normal).shape == (4, 4, 3)


def test_principal_directions_are_those_of_most_variance():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(200, 4)) * [0.1, 5.0, 0.01, 1.0]
    found = prototype_figures.principal(features, features)
    np.testing.assert_allclose(found.std(axis=0), [5.0, 1.0, 0.1], rtol=0.2)
    assert prototype_figures.principal(features[:, :2], features[:3, :2]).shape == (3, 3)


def test_long_and_odd_names_get_their_maps_and_rows(tmp_path):
    names = ["n" * 242, "a$_$b", "=1+1"]
    for i, name in enumerate(names):
        Image.fromarray(made_prototypes.sample(i).image).save(tmp_path / f"{name}.png")
    subjects = explanation_report.subjects_of_files([tmp_path / f"{name}.png" for name in names])
    out = tmp_path / "out"
    assert explanation_report.write_explanations(made_prototypes.counter(), subjects, out) == 0
    assert len(list((out / "maps").iterdir())) == 6
    rows = {row["image"] for row in read(out / "contributions.csv")}
    assert {"a$_$b", "./=1+1"} < rows


def test_maps_that_cannot_be_written_do_not_stop_the_others(tmp_path, monkeypatch):
    write_maps = explanation_report.write_maps

    def fails_for_a(folder, name, *rest):
        if name == "a":
            raise OSError("no space left")
        write_maps(folder, name, *rest)

    monkeypatch.setattr(explanation_report, "write_maps", fails_for_a)
    samples = [dataclasses.replace(made_prototypes.sample(i), name="ab"[i]) for i in range(2)]
    subjects = explanation_report.subjects_of_samples(samples)
    assert explanation_report.write_explanations(made_prototypes.counter(), subjects, tmp_path) == 1
    assert "no space left" in (tmp_path / "explanation.html").read_text()
