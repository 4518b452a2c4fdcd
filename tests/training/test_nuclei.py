"""The nuclei counter: sizes of cells, images brought to one size, and the table by group."""

import dataclasses
import json

import numpy as np
import pytest
from scipy import ndimage

from benchmarks.accuracy import nuclei as benchmark
from cellcount_jax.data import cell_diameter as cell_size
from cellcount_jax.data.preprocess import Preprocessing
from cellcount_jax.data.sample import Sample
from cellcount_jax.datasets import normalise_diameter
from cellcount_jax.datasets.load import SplitDataset
from cellcount_jax.inference.cell_scale import with_diameter
from cellcount_jax.inference.counter import Counter
from cellcount_jax.methods.base import Readout, Stage, Variables
from tests.datasets import made_sets


def discs(shape, diameter, *, n=12, seed=0, glow=0.0):
    """Bright discs that do not touch, on an uneven ground; image [H, W, 1] uint8, dots, labels."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]]
    labels, dots = np.zeros(shape, np.uint16), []
    for _ in range(1000):
        at = rng.uniform(diameter / 2 + 1, np.array(shape) - diameter / 2 - 1)
        if len(dots) < n and all(np.hypot(*(at - d)) > 1.3 * diameter for d in dots):
            dots.append(at)
            labels[np.hypot(y - at[0], x - at[1]) <= diameter / 2] = len(dots)
    y_share, x_share = y / shape[0] - 0.5, x / shape[1] - 0.5
    ground = 20 + 100 * glow * np.exp(-8 * (y_share**2 + x_share**2))
    image = ground + 90 * (labels > 0) + rng.normal(0, 3, shape)
    return np.clip(image, 0, 255).astype(np.uint8)[..., None], np.array(dots, np.float32), labels


def sample_of(name, diameter, shape=(120, 150), **options):
    image, dots, labels = discs(shape, diameter, **options)
    return Sample(name, image, dots, f"{shape[0]}x{shape[1]}", labels=labels)


def test_mean_diameter_is_that_of_the_disc_of_equal_area():
    labels = np.zeros((60, 60), np.uint16)
    labels[2:12, 2:12] = 3  # 100 pixels
    labels[20:40, 20:40] = 7  # 400 pixels
    assert cell_size.mean_diameter(labels) == pytest.approx(np.sqrt(4 / np.pi) * 15)
    assert cell_size.mean_diameter(np.zeros((5, 5), int)) is None


@pytest.mark.parametrize("diameter", [9, 14, 25, 50, 90])
def test_estimate_is_near_the_truth_at_tenfold_magnification(diameter):
    image, _, _ = discs((256, 320), diameter, n=10)
    assert cell_size.estimate_diameter(image) == pytest.approx(diameter, rel=0.3)


def test_holes_are_filled_as_scipy_does():
    rng = np.random.default_rng(0)
    for share in (0.3, 0.5, 0.7):
        cells = rng.random((40, 55)) < share
        assert np.array_equal(cell_size._without_holes(cells), ndimage.binary_fill_holes(cells))


def test_estimate_sees_cells_in_a_tissue_that_glows_and_not_the_tissue():
    image, _, _ = discs((300, 300), 12, n=60, glow=1.2)
    assert cell_size.estimate_diameter(image) == pytest.approx(12, rel=0.4)


def test_estimate_of_a_large_image_takes_the_parts_with_cells_and_keeps_its_limits():
    image, _, _ = discs((300, 300), 16, n=60)
    large = np.full((2100, 1700, 1), 20, np.uint8)
    large[900:1200, 700:1000] = image
    assert cell_size.estimate_diameter(large) == pytest.approx(16, rel=0.3)
    assert cell_size.estimate_diameter(np.full((40, 40, 2), 7, np.uint16)) is None
    noise = np.random.default_rng(0).integers(0, 255, (99, 99, 3), np.uint8)
    assert cell_size.SMALLEST <= cell_size.estimate_diameter(noise) <= cell_size.LARGEST


def test_images_stay_as_they_are_where_their_cells_have_about_the_wanted_size():
    image, _, _ = discs((256, 320), 14, n=10)
    found = cell_size.estimate_diameter(image)
    for share in (1.0, 1.09, 1 / 1.09):
        assert cell_size.scale_to(share * found, image) == 1.0
    assert cell_size.scale_to(1.11 * found, image) == pytest.approx(1.11)
    assert cell_size.scale_to(found / 1.11, image) == pytest.approx(1 / 1.11)
    assert cell_size.scale_to(14.0, np.full((40, 40, 2), 7, np.uint16)) == 1.0


@pytest.mark.parametrize("longest", [16, 37, 400])
def test_windows_cover_the_image_and_share_out_its_dots(longest):
    sample = sample_of("a", 9)
    windows = list(normalise_diameter.cut_windows(sample, longest))
    assert sum(w.image.size for w in windows) == sample.image.size
    assert max(max(w.image.shape) for w in windows) <= longest
    assert sum(w.count for w in windows) == sample.count
    for window in windows:
        limits = np.array(window.image.shape[:2]) - 0.5
        assert ((window.dots >= -0.5) & (window.dots < limits)).all()
        for y, x in np.rint(window.dots).astype(int):
            assert window.image[y, x, 0] > 70  # each dot still lies on its cell


def same(samples, **options):
    source = SplitDataset("made", "none", 0, samples, False, "0", "made")
    settings = {"diameter": 14.0, "jitter": 1.0, "copies": 1, "window": 999, "n_simulated": 0}
    return normalise_diameter.same_size(source, seed=0, **{**settings, **options}).splits


def test_training_images_get_one_size_of_cells_and_the_others_about_that():
    parts = {"train": [sample_of("a", 10), sample_of("b", 40)], "test": [sample_of("c", 28)]}
    found = same(parts)
    for sample, scale in zip(found["train"], (1.4, 0.35), strict=True):
        assert sample.image.shape[:2] == pytest.approx((120 * scale, 150 * scale), rel=0.05)
        assert sample.count == 12 or scale < 1
    assert found["test"][0].image.shape[0] == pytest.approx(60, rel=0.3)
    assert found["test"][0].count == parts["test"][0].count


def test_copies_differ_in_size_within_the_jitter_and_the_seed_repeats_them():
    parts = {"train": [sample_of("a", 14)]}
    sides = [s.image.shape[0] for s in same(parts, jitter=1.5, copies=8)["train"]]
    assert len(set(sides)) > 4
    assert min(sides) >= 119 / 1.5
    assert max(sides) <= 121 * 1.55
    assert sides == [s.image.shape[0] for s in same(parts, jitter=1.5, copies=8)["train"]]


def test_simulated_cells_join_the_training_part_some_of_them_empty():
    found = same({"train": [sample_of("a", 14)]}, n_simulated=3)
    simulated = [s for s in found["train"] if s.name.startswith("simulated")]
    assert {s.image.shape[-1] for s in simulated} == {1}
    assert [s.count > 0 for s in simulated] == [False, True, True]


def test_noise_joins_the_training_part_and_holds_no_cell():
    parts = {"train": [sample_of("a", 14)]}
    found = [s for s in same(parts, n_noise=4)["train"] if s.name.startswith("noise")]
    assert len(found) == 4
    assert all(s.count == 0 and s.image.std() > 0 for s in found)
    again = [s for s in same(parts, n_noise=4)["train"] if s.name.startswith("noise")]
    assert all(np.array_equal(a.image, b.image) for a, b in zip(found, again, strict=True))


def test_glow_adds_light_to_its_share_of_the_training_copies_and_moves_no_dot():
    parts = {"train": [sample_of("a", 14), sample_of("b", 14)], "test": [sample_of("c", 14)]}
    bare, lit = (same(parts, copies=10, glow=glow) for glow in (0.0, 0.5))
    assert np.array_equal(bare["test"][0].image, lit["test"][0].image)
    assert all(np.array_equal(s.dots, bare["train"][0].dots) for s in lit["train"][:10])
    changed = [
        not any(np.array_equal(s.image, b.image) for b in bare["train"]) for s in lit["train"]
    ]
    assert 4 <= sum(changed) <= 16
    all_lit = same(parts, copies=10, glow=1.0)["train"]
    assert all(s.image.dtype == np.uint8 for s in all_lit)
    assert np.mean([s.image.mean() for s in all_lit]) > bare["train"][0].image.mean()


def test_glow_is_of_the_brightness_of_cells_and_leaves_a_full_image_within_its_type():
    image, _, _ = discs((90, 120), 14)
    added = [
        normalise_diameter.add_glow(image, np.random.default_rng(i)).astype(int) - image
        for i in range(20)
    ]
    low, high = np.percentile(image, (1.0, 99.8))
    assert all(a.min() >= 0 for a in added)
    assert max(a.max() for a in added) < 2 * (high - low)
    assert np.median([a.max() for a in added]) > 0.1 * (high - low)
    full = np.full((30, 30, 1), 255, np.uint8)
    full[:10] = 0
    assert normalise_diameter.add_glow(full, np.random.default_rng(0)).max() == 255


def test_empty_training_images_are_resized_as_they_will_be_at_prediction():
    noise = np.random.default_rng(0).integers(0, 255, (90, 90, 1), np.uint8)
    empty = Sample("empty", noise, np.zeros((0, 2), np.float32), labels=np.zeros((90, 90), int))
    (found,) = same({"train": [empty]})["train"]
    assert found.image.shape[0] == round(90 * 14.0 / cell_size.estimate_diameter(noise)) > 90


def test_cells_without_masks_cannot_be_brought_to_a_size():
    bare = dataclasses.replace(sample_of("bare", 14), labels=None)
    with pytest.raises(ValueError, match="bare: no mask of its cells"):
        same({"train": [bare]})


def bright_counter(cell_diameter, **facts):
    """Finds bright pixels; says at what size of cells it was trained."""
    stage = Stage(
        name="bright",
        init=None,
        loss=None,
        predict=lambda variables, images: {"density": images[..., 0]},
        readout=Readout("density", points_map="density", count="peaks", threshold=0.6),
        stride=1,
        halo=2,
    )
    brightness = Preprocessing(channels=1, normalise="minmax")
    nothing = Variables({}, {}, {}, {})
    return Counter(stage, nothing, brightness, cell_diameter=cell_diameter, facts=facts)


def test_a_counter_of_one_size_resizes_each_image_by_estimate_or_by_what_it_is_told():
    counter = bright_counter(14.0)
    image, _, _ = discs((120, 150), 28)
    assert counter.count(image).scale == pytest.approx(0.5, rel=0.3)
    assert with_diameter(counter, 7.0).count(image).scale == 2.0
    assert with_diameter(counter, None) is counter
    with pytest.raises(ValueError, match="diameter -1"):
        with_diameter(counter, -1.0)


def test_any_other_counter_stays_as_it_is():
    counter = bright_counter(None)
    assert with_diameter(counter, 3.0) is counter


def row(true, predicted, points, diameter, matches):
    keys = ("true", "predicted", "points", "diameter", "matches")
    return dict(zip(keys, (true, predicted, points, diameter, matches), strict=True))


def test_figures_of_a_group():
    rows = [row(10, 12.0, 9, 20.0, (8, 1, 2)), row(4, 3.0, 4, 30.0, (4, 0, 0))]
    found = benchmark.summary(rows)
    assert found["n"] == 2
    assert (found["mae"], found["bias"], found["diameter"]) == (1.5, 0.5, 25.0)
    assert found["mape"] == pytest.approx(100 * (0.2 + 0.25) / 2)
    assert found["points_mape"] == pytest.approx(5.0)
    assert found["f1"] == pytest.approx(2 * 12 / (2 * 12 + 1 + 2))
    table = benchmark.table({"all": found}).splitlines()
    assert len(table) == 3
    assert all(line.count("|") == len(benchmark.COLUMNS) + 2 for line in table)


def test_table_of_a_run_has_every_held_out_group(tmp_path, monkeypatch):
    made_sets.make("dsb2018", tmp_path / "raw", 12)
    monkeypatch.setenv("CELLCOUNT_RAW_DIR", str(tmp_path / "raw"))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "prepared"))
    data = {"name": "dsb2018", "protocol": "by_size"}
    counter = bright_counter(5.0, config={"data": data, "seed": 0})
    monkeypatch.setattr(Counter, "load", lambda run: counter)
    found = benchmark.evaluate_run(tmp_path)
    assert set(found["by"]) == {"size estimated", "size given"}
    for groups in found["by"].values():
        parts = [part["n"] for key, part in groups.items() if key != "all"]
        assert groups["all"]["n"] == sum(parts) > 0
    json.dumps(found, allow_nan=False)
