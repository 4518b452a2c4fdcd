"""Counts do not depend on how an image is cut, read, or batched with others."""

import dataclasses
import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from benchmarks.exactness.tile_sensitivity import grid_effect
from cellcount_jax.data.resampling import Resampling
from cellcount_jax.inference import window_pass
from cellcount_jax.inference.batched_predict import OutOfDeviceMemoryError
from cellcount_jax.inference.counter import Counter
from cellcount_jax.inference.readout import read_out
from cellcount_jax.inference.window_pass import count_images
from cellcount_jax.io.images.image import open_lazy
from tests.inference.made_counters import ShortOfMemory, bright_counter, cells, made

GLOBAL = ("dcl", "consistency", "consistency_3d")


def maps_of(counter: Counter, image: np.ndarray, *, max_window=None, offset=None) -> dict:
    cut = dataclasses.replace(counter, batch_size=4, max_window=max_window)
    return next(count_images(cut.predictor, [cut.prepare(image)], offset=offset)).maps


def count_by_windows(counter: Counter, image: np.ndarray, path: Path, **options):
    np.save(path, image)
    with open_lazy(path, axes="ZYXC"[4 - image.ndim :]) as opened:
        return counter.count_open(opened, in_memory=False, **options)


@pytest.mark.parametrize(
    ("method", "shape", "max_window", "offset"),
    [
        ("density", (101, 87), 64, None),
        ("density", (101, 87), 64, (4, 0)),
        ("density", (101, 150), 72, (0, 12)),
        ("density", (61, 230), 64, None),
        ("csrnet", (330, 42), 320, None),
        ("csrnet", (330, 42), 320, (16, 0)),
    ],
)
def test_the_tiled_map_is_the_whole_map(method, shape, max_window, offset):
    counter, image = made(method), cells(shape)
    whole = maps_of(counter, image)
    tiled = maps_of(counter, image, max_window=max_window, offset=offset)
    readout = counter.stage.readout
    expected = whole[readout.count_map]
    assert np.ptp(expected) > 0.1 * np.abs(expected).max()
    np.testing.assert_allclose(
        tiled[readout.count_map], expected, atol=1e-4 * np.abs(expected).max()
    )
    one, other = read_out(whole, readout), read_out(tiled, readout)
    assert other.count == pytest.approx(one.count, rel=1e-4)
    if one.points is not None:
        # Untrained maps have neighbours that tie but for rounding; trained ones: test_seams.py.
        one, other = (read_out(in_steps(maps), readout) for maps in (whole, tiled))
        assert len(one.points) > 10
        np.testing.assert_array_equal(other.points, one.points)


def in_steps(maps: dict) -> dict:
    """Maps in steps of a hundred-thousandth of their largest value."""
    step = {name: 1e-5 * np.abs(values).max() for name, values in maps.items()}
    return {name: step[name] * np.round(values / step[name]) for name, values in maps.items()}


def test_a_tile_without_its_halo_shows_at_the_seams():
    counter, image = made("density"), cells((101, 87))
    blind = dataclasses.replace(counter, stage=dataclasses.replace(counter.stage, halo=12))
    whole, tiled = maps_of(counter, image), maps_of(blind, image, max_window=64)
    assert np.abs(whole["density"] - tiled["density"]).max() > 1e-3 * whole["density"].max()


@pytest.mark.parametrize("method", ["density", "countxplain", *GLOBAL])
@pytest.mark.parametrize("small", [False, True])
def test_window_by_window_the_count_is_that_of_the_image_in_memory(method, small, tmp_path):
    counter = made(method)
    shape = (21, 30, 17) if method.endswith("3d") else (70, 53)
    shape = tuple(n // 3 for n in shape) if small else shape
    if counter.stage.window is None:
        counter = dataclasses.replace(counter, max_window=64)
    image = cells(shape)
    expected = counter.count(image)
    boxes, progress, opened = [], [], []

    def open_density(*given):
        opened.append(given)
        return lambda *box_and_values: boxes.append(box_and_values)

    found = count_by_windows(
        counter,
        image,
        tmp_path / "image.npy",
        on_window=lambda *numbers: progress.append(numbers),
        open_density=[open_density],
    )
    assert found.count == pytest.approx(expected.count, rel=1e-6)
    assert progress[-1][0] == progress[-1][1] == len(progress)
    if expected.points is not None:
        np.testing.assert_array_equal(found.points, expected.points)
        np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-5)
    if expected.density is not None:
        ((shape_of_map, scale),) = opened
        assert scale == 1.0
        density = np.full(shape_of_map, np.nan, np.float32)
        for box, values in boxes:
            assert np.isnan(density[box]).all()
            density[box] = values
        np.testing.assert_allclose(density, expected.density, atol=1e-6)
        assert found.density_sum == pytest.approx(expected.density_sum, rel=1e-6)


@pytest.mark.parametrize("method", ["density", "countxplain", *GLOBAL])
@pytest.mark.parametrize("value", [0, 700])
def test_an_image_of_one_value_holds_no_cell(method, value, tmp_path):
    counter = made(method)
    shape = (19, 40, 33) if method.endswith("3d") else (70, 53)
    image = np.full((*shape, counter.preprocessing.channels), value, np.uint16)
    densities = []
    take = lambda *_: lambda box, values: densities.append(values)  # noqa: E731
    found = count_by_windows(counter, image, tmp_path / "blank.npy", open_density=[take])
    for one in (counter.count(image), found):
        assert one.count == 0
        assert one.points is None or one.points.shape == (0, len(shape))
        assert one.density_sum in (None, 0.0)
    assert not any(values.any() for values in densities)


@pytest.mark.parametrize("shape", [(1, 20, 20), (2, 33, 17), (3, 5, 70), (40, 3, 50), (1, 1, 1)])
def test_a_volume_thinner_than_the_pooling_needs_is_counted(shape):
    counter = made("consistency_3d")
    image = cells((40, 80, 80))[tuple(slice(0, n) for n in shape)]
    found = counter.count(image)
    assert found.maps["inverse_distance"].shape == shape
    assert np.isfinite(found.count)
    if len(found.points):
        assert (found.points >= 0).all()
        assert (found.points <= np.array(shape) - 1).all()


def test_window_by_window_an_image_is_resized_as_in_memory(tmp_path, monkeypatch):
    counter = dataclasses.replace(
        bright_counter(), resampling=Resampling(factor=0.7), max_window=32
    )
    monkeypatch.setattr(window_pass, "N_INTENSITY_WINDOWS", 10_000)
    image = cells((150, 131))[..., :1]
    expected = counter.count(image)
    found = count_by_windows(counter, image, tmp_path / "image.npy")
    assert found.scale == expected.scale == 0.7
    assert found.count == pytest.approx(expected.count, rel=1e-3)
    assert len(found.points) == len(expected.points) > 5
    assert np.abs(found.points - expected.points).max() < 1e-3


def test_a_shallow_window_of_a_global_network_still_has_room():
    counter = bright_counter(3)
    stage = dataclasses.replace(counter.stage, window=(8, 32, 32), halo=8)
    deep = dataclasses.replace(counter, stage=stage).count(cells((40, 40, 20)))
    assert deep.maps["density"].shape == (40, 40, 20)


def test_volumes_are_tiled_exactly():
    counter = bright_counter(3)
    image = cells((21, 50, 37))
    whole = maps_of(counter, image)
    np.testing.assert_allclose(
        maps_of(counter, image, max_window=16)["density"], whole["density"], rtol=1e-5
    )


def test_the_grid_changes_only_networks_with_global_operations():
    image = cells((101, 87))
    counter = dataclasses.replace(made("density"), max_window=64)
    exact = grid_effect(counter, image)
    assert len(exact.counts) == 4
    assert exact.change < 0.01
    assert exact.counts[0] == pytest.approx(counter.count(image).count)
    assert grid_effect(made("dcl"), image).change > exact.change


def test_images_of_all_sizes_share_few_compilations():
    counter, traced = bright_counter(), []
    plain = counter.stage.predict

    def predict(variables, images):
        traced.append(images.shape)
        return plain(variables, images)

    counter = dataclasses.replace(
        counter, stage=dataclasses.replace(counter.stage, predict=predict)
    )
    rng = np.random.default_rng(0)
    images = [rng.random((h, w, 1)) for h in range(65, 81, 5) for w in range(1, 30, 7)]
    assert len(list(counter.count_all(images))) == len(images)
    assert len(traced) == len(set(traced)) <= 4


def test_images_in_one_batch_do_not_touch_each_other():
    counter = made("density")
    images = [cells((40, 37), seed) for seed in range(3)]
    together = [found.count for found in counter.count_all(images)]
    alone = [counter.count(image).count for image in images]
    np.testing.assert_allclose(together, alone, rtol=1e-5)


def test_variables_are_placed_once():
    placed, plain = [], bright_counter()
    run = jax.jit(plain.stage.predict)
    counter = dataclasses.replace(plain, predict=lambda v, x: placed.append(v) or run(v, x))
    image = cells((40, 40))[..., :1]
    counter.count(image)
    counter.count(image)
    assert placed[0].trained["scale"] is placed[1].trained["scale"]
    assert isinstance(placed[0].trained["scale"], jax.Array)


@pytest.mark.parametrize("in_memory", [False, True])
def test_when_the_device_is_full_batches_and_then_windows_shrink(in_memory, tmp_path, caplog):
    plain = bright_counter()
    images = [cells((90, 64), seed)[..., :1] for seed in range(4)]
    device = ShortOfMemory(plain.stage.predict, 48 * 48)
    counter = dataclasses.replace(plain, predict=device)
    caplog.set_level(logging.WARNING)
    if in_memory:
        found = list(counter.count_all(images))
    else:
        found = [count_by_windows(counter, image, tmp_path / "image.npy") for image in images]
    expected = list(plain.count_all(images))
    np.testing.assert_allclose([f.count for f in found], [e.count for e in expected], rtol=1e-5)
    messages = [record.message for record in caplog.records]
    assert sum("windows of" in line for line in messages) <= 2
    assert len(messages) <= 6
    assert all(np.prod(shape) <= 48 * 48 for shape in device.shapes)


def test_a_fixed_window_that_does_not_fit_is_an_error_that_says_so():
    counter = made("dcl")
    device = ShortOfMemory(counter.stage.predict, 48)
    with pytest.raises(OutOfDeviceMemoryError, match="a window of 48 x 48 pixels does not fit"):
        dataclasses.replace(counter, predict=device).count(cells((50, 50)))


@pytest.mark.parametrize("shape", [(0, 5, 1), (5, 0, 1), (3, 3, 3, 3, 1)])
def test_arrays_that_are_not_images_are_refused(shape):
    with pytest.raises(ValueError, match="an image of shape"):
        next(bright_counter().count_all([np.zeros(shape)]))


def test_an_image_of_one_pixel_is_counted():
    assert np.isfinite(bright_counter().count(np.ones((1, 1, 1))).count)


DEVICES = """
import dataclasses
import jax
from tests.inference.made_counters import bright_counter, cells
assert jax.local_device_count() == 4
plain, shapes = bright_counter(), []
run = jax.jit(plain.stage.predict)
counter = dataclasses.replace(plain, predict=lambda v, x: shapes.append((x.shape,
    len(x.sharding.device_set), x.sharding.shard_shape(x.shape))) or run(v, x))
images = [cells((40, 40), seed)[..., :1] for seed in range(6)]
print([found.count for found in counter.count_all(images)])
assert {n for _, n, _ in shapes} == {4}, shapes
assert all(shape[0] == 4 * each[0] for shape, _, each in shapes), shapes
"""


def test_windows_are_spread_over_the_devices_of_a_host():
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "4"}
    found = subprocess.run(
        [sys.executable, "-c", DEVICES],
        env=environment,
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr[-2000:]
    images = [cells((40, 40), seed)[..., :1] for seed in range(6)]
    expected = [c.count for c in bright_counter().count_all(images)]
    np.testing.assert_allclose(json.loads(found.stdout.splitlines()[-1]), expected, rtol=1e-5)
