"""The bundled models: what is in their files, that they count, that the wheel holds them."""

import csv
import json
import re
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import safetensors
from PIL import Image

from cellcount_jax.cli import main
from cellcount_jax.datasets import load
from cellcount_jax.evaluation.matching import match_points
from cellcount_jax.export import provenance, write_model
from cellcount_jax.inference import bundled, model_file
from cellcount_jax.inference.counter import Counter
from cellcount_jax.simulation.simulate import simulate_cells
from tests.inference.made_counters import cells
from tests.io.images.image_writers import write_ome_zarr
from tests.prediction.test_hostile_files import hostile, odd, write_hostile

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def counter():
    return Counter.load("nuclei")


@pytest.mark.parametrize("name", bundled.MODELS)
def test_a_bundled_model_is_small_and_has_its_provenance(name):
    path = Path(bundled.resolve(name))
    assert path.stat().st_size < 5e6
    _, facts = model_file.read(path)
    assert facts == provenance.without_paths(facts)
    training = facts["training"]
    assert training["dataset_is_fallback"] is False
    for key in ("dataset", "protocol", "split_hash", "seed", "mae", "f1", "versions"):
        assert training[key] is not None
    is_first = name == "nuclei"
    card = (ROOT / "docs" / ("nuclei.md" if is_first else "models.md")).read_text()
    with safetensors.safe_open(path, framework="numpy") as file:
        assert json.loads(file.metadata()["cellcount"])["sha256"] in card
    config = facts["config"]
    preset = "nuclei.py:quick" if is_first else f"bundled.py:quick_{name}"
    assert f"configs/{preset}" in card
    assert ", ".join(map(str, config["model"]["channels"])) in card


@pytest.mark.parametrize("seed", range(3))
def test_it_counts_simulated_cells(counter, seed):
    image, dots = simulate_cells(seed, (256, 256), 60)
    found = counter.count(image)
    assert found.count == pytest.approx(60, rel=0.2)
    tp, fp, fn = match_points(found.points, dots, radius=6.0)
    assert 2 * tp / (2 * tp + fp + fn) > 0.85


@pytest.mark.parametrize("strength", [2, 20])
def test_noise_is_not_counted(counter, strength):
    noise = np.random.default_rng(0).normal(100, strength, (256, 256))
    assert counter.count(noise.astype(np.uint8)).count <= 3
    assert counter.count(np.full((64, 64), 7, np.uint8)).count == 0


@pytest.mark.parametrize("spoiled", ["hot", "salt", "filled"])
def test_outliers_do_not_change_the_count(counter, spoiled):
    image = simulate_cells(0, (256, 256), 60)[0].mean(axis=-1).astype(np.uint16) * 10
    clean = counter.count(image)
    if spoiled == "filled":
        image = np.pad(image, ((0, 0), (60, 0)), constant_values=65535)
    else:
        at = np.random.default_rng(0).choice(image.size, 1 if spoiled == "hot" else 300)
        image.ravel()[at] = 65535
    found = counter.count(image)
    assert clean.count == pytest.approx(60, rel=0.2)
    assert abs(found.count - clean.count) <= (0 if spoiled == "hot" else 1)


def test_a_run_in_a_folder_of_that_name_takes_precedence(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nuclei").mkdir()
    assert Path(bundled.resolve("nuclei")).suffix == ".cellcount"
    (tmp_path / "nuclei" / "checkpoints").mkdir()
    assert bundled.resolve("nuclei") == "nuclei"
    assert bundled.resolve(tmp_path / "x") == tmp_path / "x"


def test_images_are_counted_without_naming_a_model(tmp_path, capsys):
    image, _ = simulate_cells(0, (128, 128), 20)
    Image.fromarray(image).save(tmp_path / "a.png")
    out = tmp_path / "out"
    assert main.main(["predict", str(tmp_path / "a.png"), "-o", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "model: nuclei (bundled)" in printed
    with (out / "counts.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["model"] == "nuclei"
    assert float(row["count"]) == pytest.approx(20, abs=4)
    named = [*("predict", str(tmp_path / "a.png"), "--model", "nuclei", "-o", str(out))]
    assert main.main(named) == 0  # resumes what the first did
    assert "bundled" not in capsys.readouterr().out


def test_all_models_together_are_small():
    assert sum(Path(bundled.resolve(name)).stat().st_size for name in bundled.MODELS) < 3e6


@pytest.mark.parametrize(
    ("name", "dataset"),
    [("tissue", "dsb2018_stained"), ("phase", "usiigaci"), ("blood", "chula_rbc12"),
     ("nuclei3d", "bbbc050")],
)  # fmt: skip
def test_held_out_images_are_counted(raw_dir, name, dataset):
    """The first test images: none of them was trained on."""
    counter = Counter.load(name)
    source = load.load_dataset(dataset, protocol=counter.facts["config"]["data"]["protocol"])
    assert source.split_hash == counter.facts["training"]["split_hash"]
    tests = source.splits["test"][:3]
    found = sum(counter.count(s.image, spacing=s.spacing).count for s in tests)
    assert found == pytest.approx(sum(s.count for s in tests), rel=0.15)


def test_it_can_be_exported_like_any_other(tmp_path):
    target = tmp_path / "mine.cellcount"
    facts = write_model.export_model("nuclei", target)
    assert facts["training"] == model_file.read(Path(bundled.resolve("nuclei")))[1]["training"]
    assert Counter.load(target).resampling == Counter.load("nuclei").resampling


def test_wheel_and_source_archive_hold_it(tmp_path):
    wheel = pytest.importorskip("hatchling.builders.wheel")
    sdist = pytest.importorskip("hatchling.builders.sdist")
    (made,) = wheel.WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    with zipfile.ZipFile(made) as archive:
        for name in bundled.MODELS:
            inside = archive.read(f"cellcount_jax/inference/bundled/{name}.cellcount")
            assert inside == Path(bundled.resolve(name)).read_bytes()
        assert "cellcount_jax/py.typed" in archive.namelist()
    (made,) = sdist.SdistBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    with tarfile.open(made) as archive:
        names = archive.getnames()
    files = [n for n in names if n.endswith(".cellcount") and "/cellcount_jax/inference/" in n]
    assert len(files) == len(bundled.MODELS)


@pytest.mark.slow
def test_twenty_good_files_among_three_hundred_hostile_ones_are_counted(tmp_path, capsys):
    (folder := tmp_path / "in").mkdir()
    write_hostile(folder, damaged=300 - len(hostile()) - len(odd()) - 2)
    for name, data in odd().items():
        (folder / name).write_bytes(data)
    zarr = write_ome_zarr(folder / "holes.zarr", cells((64, 64))[..., 0], "yx")
    next(p for p in sorted((zarr / "s0").rglob("*")) if p.is_file() and p.name == "0").unlink()
    true = {}
    for i in range(20):
        true[f"good{i}.png"] = 3 + i
        image, _ = simulate_cells(i, (128, 128), 3 + i)
        Image.fromarray(image).save(folder / f"good{i}.png")
    out = tmp_path / "out"
    assert main.main(["predict", str(folder), "-o", str(out)]) == 1
    with (out / "counts.csv").open(newline="") as file:
        rows = {Path(row["image"]).name: row for row in csv.DictReader(file)}
    assert len(rows) == 320
    for row in rows.values():
        assert row["status"] == "ok" or row["status"].startswith("error: ")
        assert "\n" not in row["status"]
    found = {name: float(rows[name]["count"]) for name in true}
    assert all(rows[name]["status"] == "ok" for name in true)
    errors = [abs(found[name] - true[name]) / true[name] for name in true]
    assert np.mean(errors) < 0.2
    assert all(rows[name]["status"].startswith("error: ") for name in hostile())
    failed = sum(row["status"] != "ok" for row in rows.values())
    assert f"{320 - failed} of 320 images counted" in capsys.readouterr().out


def readme_example() -> str:
    """The README's example from Python that uses the bundled model."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    (example,) = (b for b in blocks if 'Counter.load("nuclei")' in b)
    return example


def test_the_example_of_the_readme_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_images").mkdir()
    for i in range(2):
        image, _ = simulate_cells(i, (128, 128), 20)
        Image.fromarray(image).save(tmp_path / "my_images" / f"{'ab'[i]}.png")
    names: dict = {}
    exec(readme_example(), names)
    rows = names["rows"]
    assert [r["status"] for r in rows] == ["ok", "ok"]
    assert float(rows[0]["count"]) == names["found"].count == len(names["found"].points) > 0
    assert (tmp_path / "counts" / "counts.csv").exists()
    assert json.dumps(rows)
    assert capsys.readouterr().out
