"""Files into a table: resumed, cut short, failed, sharded; points and densities beside it."""

import concurrent.futures
import dataclasses
import json
import logging
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from cellcount_jax.cli import main
from cellcount_jax.inference import window_pass
from cellcount_jax.io.annotations.dots import read_dots
from cellcount_jax.io.images.image import read_image
from cellcount_jax.prediction import counts_csv, predict_file, predict_files, writers
from cellcount_jax.prediction.find_images import find_images
from tests.inference.made_counters import bright_counter, cells
from tests.io.images.image_writers import write_ome_zarr
from tests.prediction.made_files import rows_of, save


@pytest.fixture
def images(tmp_path) -> list[Path]:
    folder = tmp_path / "images"
    folder.mkdir()
    for i in range(5):
        Image.fromarray(cells((40, 32), i)).save(folder / f"{i}.png")
    return sorted(folder.iterdir())


@pytest.fixture
def counted(monkeypatch):
    """Names of the files that are counted."""
    names, plain = [], predict_file.count_file

    def spy(counter, path, *rest, **options):
        names.append(path.name)
        return plain(counter, path, *rest, **options)

    monkeypatch.setattr(predict_files, "count_file", spy)
    return names


def test_a_second_call_counts_only_what_failed_or_changed(counter, images, tmp_path, counted):
    out = tmp_path / "out"
    (bad := images[1]).write_bytes(b"nothing")
    assert predict_files.predict_files(counter, images, out, model="m") == 1
    first = rows_of(out / "counts.csv")
    assert [r["status"][:5] for r in first] == ["ok", "error", "ok", "ok", "ok"]
    assert first[1]["status"].startswith(f"error: {bad}")
    counted.clear()
    Image.fromarray(cells((40, 32), 1)).save(bad)
    assert predict_files.predict_files(counter, images, out, model="m") == 0
    assert counted == ["1.png"]
    second = rows_of(out / "counts.csv")
    assert [r["image"] for r in second] == list(map(str, images))
    assert [r for r in second if r["image"] != str(bad)] == [r for r in first if r != first[1]]
    counted.clear()
    (out / "points" / "2.csv").unlink()
    predict_files.predict_files(counter, images, out, model="m")
    assert counted == ["2.png"]


def test_a_density_that_the_model_does_not_count_by_is_refused(counter, images, tmp_path):
    readout = dataclasses.replace(counter.stage.readout, count="peaks")
    by_points = dataclasses.replace(
        counter, stage=dataclasses.replace(counter.stage, readout=readout)
    )
    with pytest.raises(ValueError, match="density: this model counts points"):
        predict_files.predict_files(by_points, images, tmp_path / "out", model="m", density=True)
    assert not (tmp_path / "out" / "counts.csv").exists()


def test_overlays_that_nobody_asks_for_any_more_keep_the_rows(counter, images, tmp_path, counted):
    out = tmp_path / "out"

    def draw(*args, **kwargs):
        pass

    predict_files.predict_files(counter, images[:2], out, model="m", on_counted=draw)
    predict_files.predict_files(counter, images[:2], out, model="m")
    assert counted == ["0.png", "1.png"]
    # They are counted again where some have no overlay.
    predict_files.predict_files(counter, images[:2], out, model="m", on_counted=draw)
    assert counted == ["0.png", "1.png"] * 2


def test_images_that_are_added_are_counted_by_the_model_of_the_others(images, tmp_path, capsys):
    out = tmp_path / "out"
    command = ["predict", str(images[0].parent), "-o", str(out)]
    assert main.main([*command[:1], str(images[0]), *command[2:], "--model", "phase"]) == 0
    assert main.main(command) == 0
    assert f"model: phase (bundled), as in {out / 'counts.csv'};" in capsys.readouterr().out
    assert {row["model"] for row in rows_of(out / "counts.csv")} == {"phase"}
    # Other images in the same folder of results are looked at.
    Image.fromarray(cells((40, 32), 9)).save(tmp_path / "other.png")
    assert main.main([*command[:1], str(tmp_path / "other.png"), *command[2:]]) == 0
    said = capsys.readouterr().out
    assert "(bundled), for " in said
    assert "as in" not in said


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_what_was_counted_before_a_stop_is_kept(counter, images, tmp_path, monkeypatch, stop):
    out, plain, names, stops_now = tmp_path / "out", predict_file.count_file, [], [True]

    def stops(counter, path, *rest, **options):
        names.append(path.name)
        if path.name == "3.png" and stops_now:
            raise stops_now.pop() and stop
        return plain(counter, path, *rest, **options)

    monkeypatch.setattr(predict_files, "count_file", stops)
    with pytest.raises(stop):
        predict_files.predict_files(counter, images, out, model="m")
    assert len(rows_of(out / "counts.csv")) == 3
    with (out / "counts.csv").open("a") as file:  # as a crash would leave it
        file.write(f"{images[3]},12.0,1")
    names.clear()
    assert predict_files.predict_files(counter, images, out, model="m") == 0
    assert names == ["3.png", "4.png"]
    assert [r["image"] for r in rows_of(out / "counts.csv")] == list(map(str, images))


def test_rows_of_another_model_are_set_aside(counter, images, tmp_path, counted, caplog):
    out = tmp_path / "out"
    predict_files.predict_files(counter, images[:2], out, model="m")
    retrained = dataclasses.replace(
        counter, variables=counter.variables._replace(trained={"scale": np.float32(0.25)})
    )
    caplog.set_level(logging.WARNING)
    predict_files.predict_files(retrained, images[:2], out, model="m")
    assert counted == ["0.png", "1.png"] * 2
    assert "was made with another model or other settings" in caplog.text
    old, new = rows_of(out / "counts.before-1.csv"), rows_of(out / "counts.csv")
    for one, other in zip(old, new, strict=True):
        assert float(other["count"]) == pytest.approx(float(one["count"]) / 2, abs=1e-3)


@pytest.mark.parametrize("cut", range(1, 160, 13))
def test_a_truncated_table_loses_its_last_image_only(tmp_path, cut):
    path = tmp_path / "counts.csv"
    rows = [dict.fromkeys(counts_csv.COLUMNS, "1") | {"image": f"a,{i}"} for i in range(3)]
    rows.append(rows[-1] | {"roi": "second"})
    counts_csv.write(path, rows)
    whole = counts_csv.read(path)
    assert [r["image"] for r in whole] == ["a,0", "a,1", "a,2", "a,2"]
    text = path.read_bytes()[:-cut]
    # The rows of an image are one write, so a table never ends exactly between two of them.
    path.write_bytes(text.removesuffix(b"\n"))
    left = counts_csv.read(path)
    assert left == [r for r in whole if r["image"] in {x["image"] for x in left}]
    assert len(left) <= 2


def test_names_never_collide(tmp_path):
    paths = [Path(p) for p in ("x/a.png", "x/a.tif", "y/a.tif", "b.png", "x/B.png")]
    paths += [Path("p_q/r.png"), Path("p/q_r.png"), Path("p/q/r.png"), Path("p_q_r.png")]
    names = writers.output_names(paths)
    assert len({n.casefold() for n in names}) == len(paths)
    assert writers.output_names([Path("x/one.png"), Path("y/two.png")]) == ["one", "two"]
    many = [Path(f"{i % 700}/{i // 700}.png") for i in range(20_000)]
    assert len(set(writers.output_names(many))) == len(many)


def test_long_names_leave_room_for_extensions_and_stay_apart():
    paths = [Path("ä" * 120 + f"{i}.png") for i in range(3)]
    names = writers.output_names(paths)
    assert len(set(names)) == 3
    assert max(len(name.encode()) for name in names) <= writers.MAX_NAME_BYTES


@pytest.mark.parametrize("style", writers.POINTS_STYLES)
@pytest.mark.parametrize("number", [0, 4])
def test_points_are_read_back_from_every_style(tmp_path, style, number):
    points = np.random.default_rng(0).uniform(1, 20, (number, 2)).astype(np.float32)
    path = writers.points_path(tmp_path, "a.b", style)
    scores = np.ones(number, np.float32)
    writers.write_points(path, points, scores, style=style, spacing=(2.0, 0.5), image_name="a.tif")
    found = read_dots(path, image_shape=(30, 30)).points
    # Cell Counter holds whole pixels.
    np.testing.assert_allclose(found, points, atol=0.51 if style == "cell_counter" else 1e-3)
    if style == "plain":
        assert path.read_text().splitlines()[0] == "y,x,score,y_um,x_um"
        for row, point in zip(rows_of(path), points, strict=True):
            assert float(row["y_um"]) == pytest.approx(2 * point[0], abs=1e-3)


def test_large_images_get_the_same_table_window_by_window(counter, tmp_path, monkeypatch):
    pixels = cells((120, 90))[..., 0]
    paths = [tmp_path / "a.ome.tif", tmp_path / "b.ome.zarr"]
    facts = {"axes": "YX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
    tifffile.imwrite(paths[0], pixels, ome=True, tile=(32, 32), metadata=facts)
    write_ome_zarr(paths[1], pixels, "yx", spacing=(0.5, 0.5))
    shown: list = []
    for name, chosen in (
        ("memory", counter),
        ("windows", dataclasses.replace(counter, max_window=32)),
    ):
        if name == "windows":
            monkeypatch.setattr(window_pass, "PIXELS_IN_MEMORY", 1000)
            monkeypatch.setattr(predict_file, "OVERVIEW_SIDE", 40)
        predict_files.predict_files(
            chosen,
            paths,
            tmp_path / name,
            model="m",
            density=True,
            on_counted=lambda *given: shown.append(given),
        )
    expected, found = (rows_of(tmp_path / n / "counts.csv") for n in ("memory", "windows"))
    for one, other in zip(expected, found, strict=True):
        assert one["status"] == other["status"] == "ok"
        assert float(other["count"]) == pytest.approx(float(one["count"]), rel=1e-4)
        assert float(other["cells_per_mm2"]) == pytest.approx(
            float(one["count"]) / (120 * 90 * 0.25e-6), rel=1e-4
        )
        assert other["n_points"] == one["n_points"] != "0"
    for name in ("a.ome", "b.ome"):
        texts = [
            (tmp_path / n / "points" / f"{name}.csv").read_text() for n in ("memory", "windows")
        ]
        assert texts[0] == texts[1]
        whole = read_image(tmp_path / "memory" / "density" / f"{name}.ome.tif")
        windows = read_image(tmp_path / "windows" / "density" / f"{name}.ome.zarr")
        np.testing.assert_allclose(windows.pixels, whole.pixels, atol=1e-6)
        assert windows.spacing == whole.spacing == (0.5, 0.5)
    image, drawn = shown[2][1], shown[2][2]
    assert image.space_shape == (40, 30)
    assert drawn.points.max() < 40


def test_a_volume_in_micrometres(tmp_path):
    volume = cells((12, 30, 28))
    np.save(tmp_path / "v.npy", volume[..., 0])
    code = predict_files.predict_files(
        bright_counter(3), [tmp_path / "v.npy"], tmp_path / "out", model="m", voxel_size=(2, 1, 0.5)
    )
    (row,) = rows_of(tmp_path / "out" / "counts.csv")
    assert code == 0
    assert (row["depth"], row["height"], row["width"]) == ("12", "30", "28")
    volume_mm3 = 12 * 30 * 28 * 2 * 1 * 0.5 * 1e-9
    assert float(row["cells_per_mm3"]) == pytest.approx(float(row["count"]) / volume_mm3, rel=1e-4)
    assert "cells_per_mm2" not in row


def test_channels_and_axes_are_passed_on(counter, tmp_path):
    stack = np.stack([np.zeros((40, 32), np.uint8), cells((40, 32))[..., 0]])
    np.save(tmp_path / "c.npy", stack)
    one, other = tmp_path / "one", tmp_path / "other"
    options = {"model": "m", "axes": "CYX"}
    assert (
        predict_files.predict_files(counter, [tmp_path / "c.npy"], one, **options, channels=[1])
        == 0
    )
    np.save(tmp_path / "plain.npy", stack[1])
    assert predict_files.predict_files(counter, [tmp_path / "plain.npy"], other, model="m") == 0
    counts = [rows_of(p / "counts.csv")[0]["count"] for p in (one, other)]
    assert counts[0] == counts[1]
    assert (
        predict_files.predict_files(counter, [tmp_path / "c.npy"], tmp_path / "all", **options) == 1
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"points_style": "svg"}, "unknown points style 'svg'"),
        ({"voxel_size": (0, 1, 1)}, "voxel size"),
        ({"shard": (3, 2)}, "shard 3/2"),
        ({"regions": Path("absent")}, "absent: no such file or folder of regions"),
        ({"diameter": 5.0}, "not trained on cells of one size"),
    ],
)
def test_options_that_cannot_be_used_are_refused(counter, images, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        predict_files.predict_files(counter, images, tmp_path / "out", model="m", **options)


def test_shards_merge_into_the_table_of_one_call(counter, images, tmp_path):
    one, many = tmp_path / "one", tmp_path / "many"
    predict_files.predict_files(counter, images, one, model="m")
    for i in (1, 3):
        predict_files.predict_files(counter, images, many, model="m", shard=(i, 3))
    with pytest.raises(ValueError, match="shard 2/3 is missing"):
        counts_csv.merge(many)
    predict_files.predict_files(counter, images, many, model="m", shard=(2, 3))
    target, number, failed = counts_csv.merge(many)
    assert (number, failed) == (5, 0)
    assert target.read_text() == (one / "counts.csv").read_text()
    assert main.main(["merge", str(many)]) == 0
    settings = json.loads((many / "counts.shard-2-of-3.json").read_text())
    (many / "counts.shard-2-of-3.json").write_text(json.dumps(settings | {"weights": "x"}))
    with pytest.raises(ValueError, match="another model or other settings"):
        counts_csv.merge(many)
    with pytest.raises(ValueError, match="no tables of shards"):
        counts_csv.merge(tmp_path)


def test_images_that_counting_wrote_are_not_counted(counter, images, tmp_path):
    folder = images[0].parent
    rows = counter.count_files(folder, out=folder / "out", model="m")
    (folder / "out" / "overlays").mkdir()
    images[0].rename(folder / "out" / "overlays" / "0.png")
    again = counter.count_files(folder, out=folder / "out", pattern="*.png", model="m")
    assert len(rows) == 5
    assert again == rows  # the row of the image that was moved stays, and nothing is added


def test_annotations_beside_images_are_not_counted_unless_named(tmp_path):
    for folder in ("images", "dots"):
        (tmp_path / "lab" / folder).mkdir(parents=True)
        Image.fromarray(cells((24, 24))).save(tmp_path / "lab" / folder / "a.png")
    image, dots = (tmp_path / "lab" / folder / "a.png" for folder in ("images", "dots"))
    out = tmp_path / "out"
    assert find_images(tmp_path, out) == [image]
    assert find_images(tmp_path / "lab", out) == [image]
    assert find_images(tmp_path / "lab" / "dots", out) == [dots]


def test_predicting_imports_nothing_heavy():
    import subprocess

    code = (
        "import sys; import cellcount_jax.inference.counter;"
        "import cellcount_jax.prediction.predict_files;"
        "heavy = ('orbax', 'optax', 'tensorflow_datasets', 'grain', 'matplotlib', 'tensorstore');"
        "print([name for name in heavy if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_a_second_call_keeps_rows_and_points_of_the_first(counter, tmp_path):
    out = tmp_path / "out"
    days = [save(tmp_path / day / "a.png", seed) for seed, day in enumerate(("day1", "day2"))]
    first = counter.count_files(days[0].parent, out=out, model="m")
    points = (out / "points" / "a.csv").read_bytes()
    both = counter.count_files(days[1].parent, out=out, model="m")
    assert [row["image"] for row in both] == [str(day) for day in days]
    assert both[:1] == first
    assert (out / "points" / "a.csv").read_bytes() == points
    assert (out / "points" / "a.png.csv").read_bytes() != points
    # Whichever is counted again, its points stay where they are.
    assert counter.count_files(days[0].parent, out=out, model="m")[-1]["image"] == str(days[0])
    assert (out / "points" / "a.csv").read_bytes() == points
    assert sorted(p.name for p in (out / "points").iterdir()) == ["a.csv", "a.png.csv"]


def test_two_calls_at_once_lose_no_rows(counter, tmp_path):
    out = tmp_path / "out"
    folders = [save(tmp_path / f"day{i}" / f"{i}.png", i).parent for i in range(4)]
    with concurrent.futures.ThreadPoolExecutor() as pool:
        list(pool.map(lambda f: counter.count_files(f, out=out, model="m"), folders))
    rows = counts_csv.read(out / "counts.csv")
    assert sorted(Path(row["image"]).name for row in rows) == [f"{i}.png" for i in range(4)]


def test_a_table_that_cannot_be_read_is_set_aside(counter, tmp_path):
    image, out = save(tmp_path / "a.png", 0), tmp_path / "out"
    out.mkdir()
    (out / "counts.csv").write_text("well,cells\nA1,17\n")
    counter.count_files(image, out=out, model="m")
    assert (out / "counts.before-1.csv").read_text() == "well,cells\nA1,17\n"
