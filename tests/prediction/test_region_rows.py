"""Rows of regions: the same for an image in memory and window by window."""

import csv
import dataclasses
import json
import logging
from pathlib import Path

import numpy as np
import pytest
import tifffile

from cellcount_jax.data.resampling import Resampling
from cellcount_jax.inference import window_pass
from cellcount_jax.inference.count import Count
from cellcount_jax.inference.counter import Counter
from cellcount_jax.io.images.image import open_lazy
from cellcount_jax.io.regions import regions_of
from cellcount_jax.prediction import predict_file, predict_files
from cellcount_jax.prediction.region_rows import RegionRows
from tests.inference.made_counters import ShortOfMemory, bright_counter, cells, made
from tests.io.region_files import feature, square


def table(counter: Counter, path: Path, out: Path, place: Path) -> list[dict[str, str]]:
    failed = predict_files.predict_files(
        counter,
        [path],
        out,
        model="m",
        density=counter.stage.readout.count != "peaks",
        regions=place,
        voxel_size=(2.0, 0.5, 0.25),
    )
    assert failed == 0
    with (out / "counts.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def outlines(path: Path) -> Path:
    """Two polygons, the second with a hole, across the borders of many windows."""
    rings = [
        [[[3, 5], [70, 9], [60, 88], [11, 60], [3, 5]]],
        [[[72, 60], [88, 60], [88, 115], [72, 115], [72, 60]], [[75, 70], [80, 70], [80, 90]]],
    ]
    features = [
        {
            "type": "Feature",
            "geometry": {"type": "Polygon", "coordinates": ring},
            "properties": {"name": name},
        }
        for name, ring in zip(("one", "two"), rings, strict=True)
    ]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def mask(path: Path, shape: tuple[int, ...]) -> Path:
    blocks = np.random.default_rng(0).integers(0, 3, [-(-n // 7) for n in shape])
    values = np.kron(blocks, np.ones((7,) * len(shape), int))[tuple(slice(0, n) for n in shape)]
    tifffile.imwrite(path, values.astype(np.uint8), photometric="minisblack")
    return path


@pytest.mark.parametrize("kind", ["outlines", "mask", "points", "volume", "flat regions"])
def test_regions_window_by_window_are_those_of_the_image_in_memory(kind, tmp_path, monkeypatch):
    shape = (23, 50, 37) if kind in ("volume", "flat regions") else (120, 90)
    counter = made("density") if kind == "outlines" else bright_counter(len(shape))
    if kind == "points":
        readout = dataclasses.replace(counter.stage.readout, count="peaks")
        counter = dataclasses.replace(
            counter, stage=dataclasses.replace(counter.stage, readout=readout)
        )
    counter = dataclasses.replace(counter, max_window=64 if kind == "outlines" else 16)
    image = cells(shape) if kind == "outlines" else cells(shape)[..., 0]
    tifffile.imwrite(tmp_path / "a.tif", image, tile=(32, 32))
    if kind == "outlines":
        place = outlines(tmp_path / "r.geojson")
    else:
        place = mask(tmp_path / "r.tif", shape[1:] if kind == "flat regions" else shape)
    found = []
    for name, large in (("memory", window_pass.PIXELS_IN_MEMORY), ("windows", 100)):
        monkeypatch.setattr(window_pass, "PIXELS_IN_MEMORY", large)
        found.append(table(counter, tmp_path / "a.tif", tmp_path / name, place))
    assert found[0] == found[1]
    whole, *parts = found[1]
    assert (whole["roi"], parts[-1]["roi"], len(parts)) == ("", "outside", 3)
    for row in parts:
        extent = 1e-6 * 0.5 * 0.25 * int(row["area_px"])
        count = float(row["count"])
        assert count > 0
        if len(shape) == 2:
            assert float(row["cells_per_mm2"]) == pytest.approx(count / extent, rel=1e-5)
        elif kind == "flat regions":
            assert float(row["cells_per_mm3"]) == pytest.approx(
                count / (extent * 23 * 2e-3), rel=1e-5
            )
    axes = "ZYX"[3 - len(shape) :] + "C" * (image.ndim - len(shape))
    counts = [float(row["count"]) for row in found[1]]
    assert counts[0] == pytest.approx(counter.count(image, axes=axes).count, abs=1e-3)
    assert sum(counts[1:]) == pytest.approx(counts[0], abs=1e-3)


def test_a_resized_image_has_its_regions_window_by_window_too(tmp_path, monkeypatch):
    counter = dataclasses.replace(
        bright_counter(), resampling=Resampling(factor=0.7), max_window=32
    )
    monkeypatch.setattr(window_pass, "N_INTENSITY_WINDOWS", 10_000)
    np.save(tmp_path / "a.npy", cells((120, 90))[..., 0])
    place = outlines(tmp_path / "r.geojson")
    memory = table(counter, tmp_path / "a.npy", tmp_path / "memory", place)
    monkeypatch.setattr(window_pass, "PIXELS_IN_MEMORY", 100)
    windows = table(counter, tmp_path / "a.npy", tmp_path / "windows", place)
    for one, other in zip(memory, windows, strict=True):
        assert other["area_px"] == one["area_px"]
        assert float(other["count"]) == pytest.approx(float(one["count"]), rel=1e-3)


def test_sums_restart_when_windows_shrink(tmp_path, monkeypatch):
    plain = bright_counter()
    np.save(tmp_path / "a.npy", cells((240, 210))[..., 0])
    place = outlines(tmp_path / "r.geojson")
    monkeypatch.setattr(window_pass, "PIXELS_IN_MEMORY", 100)
    expected = table(plain, tmp_path / "a.npy", tmp_path / "plain", place)

    class Forgetful(ShortOfMemory):
        """Full from its second batch on, until windows are small."""

        def __call__(self, variables, images):
            if not self.shapes or images.shape[1] < 40:
                self.shapes.append(images.shape)
                return self.predict(variables, images)
            return super().__call__(variables, images)

    device = Forgetful(plain.stage.predict, 0)
    short = dataclasses.replace(plain, predict=device, max_window=64)
    found = table(short, tmp_path / "a.npy", tmp_path / "short", place)
    assert device.shapes[0][1] > device.shapes[-1][1]
    for one, other in zip(expected, found, strict=True):
        assert float(other["count"]) == pytest.approx(float(one["count"]), rel=1e-5)


@pytest.mark.parametrize("side", [100, 10])
def test_overlays_get_the_regions_at_the_scale_of_what_is_drawn(side, tmp_path, monkeypatch):
    monkeypatch.setattr(predict_file, "OVERVIEW_SIDE", side)
    monkeypatch.setattr(window_pass, "PIXELS_IN_MEMORY", 10**6 if side == 100 else 10)
    tifffile.imwrite(tmp_path / "a.tif", cells((40, 32))[..., 0], tile=(16, 16))
    (tmp_path / "r.geojson").write_text(json.dumps(feature("Polygon", [square(8, 12, 8)])))
    shown: list = []
    predict_files.predict_files(
        dataclasses.replace(bright_counter(), max_window=32),
        [tmp_path / "a.tif"],
        tmp_path / "out",
        model="m",
        regions=tmp_path / "r.geojson",
        on_counted=lambda *given: shown.append(given),
    )
    (_, image, _, (region,)) = shown[0]
    step = 40 // image.space_shape[0]
    assert step == (1 if side == 100 else 4)
    assert region.corner == (12 // step, 8 // step) or region.corner == (8 // step, 12 // step)
    assert region.inside.shape == (8 // step, 8 // step)


def test_rows_of_an_image(tmp_path, caplog):
    for name in ("a", "b"):
        tifffile.imwrite(tmp_path / f"{name}.tif", np.zeros((20, 30), np.uint8))
    marks = tmp_path / "marks"
    marks.mkdir()
    (marks / "a.geojson").write_text(json.dumps(feature("Polygon", [square(0, 0, 10)], name="n")))
    density = np.full((20, 30), 1 / 3, np.float32)
    count = Count(200.0, None, None, density, {}, density_sum=float(density.sum(dtype=np.float64)))
    row = {"image": "a.tif", "count": 200.0, "spacing_y": 0.5, "spacing_x": 0.5, "status": "ok"}
    with open_lazy(tmp_path / "a.tif") as image:
        found = RegionRows(regions_of(marks, image.path, image.space_shape), image.space_shape)
    whole, *rows = found.rows(row, count)
    assert whole == row | {"roi": ""}
    assert [(r["image"], r["roi"], r["status"]) for r in rows] == [
        ("a.tif", "n", "ok"),
        ("a.tif", "outside", "ok"),
    ]
    assert sum(r["count"] for r in rows) == pytest.approx(200, abs=1e-5)
    assert rows[0]["cells_per_mm2"] == pytest.approx(100 / 3 / 25e-6, rel=1e-5)
    with open_lazy(tmp_path / "b.tif") as image, caplog.at_level(logging.WARNING):
        none = RegionRows(regions_of(marks, image.path, image.space_shape), image.space_shape)
    assert none.rows({"image": "b.tif"}, count) == [{"image": "b.tif"}]
    assert "counted as a whole" in caplog.text
