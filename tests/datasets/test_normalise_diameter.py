"""Training data of one cell diameter: sizes, windows, simulated cells and autofluorescence."""

import dataclasses

import numpy as np
import pytest

from cellcount_jax.data.cell_diameter import estimate_diameter
from cellcount_jax.data.resampling import Resampling
from cellcount_jax.data.sample import Sample
from cellcount_jax.datasets import normalise_diameter
from cellcount_jax.datasets.load import SplitDataset
from tests.data.disc_images import discs, sample_of


@pytest.mark.parametrize("longest", [16, 37, 400])
def test_windows_cover_the_image_and_each_dot_is_in_one(longest):
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


def normalised(samples, **options):
    dataset = SplitDataset("made", "none", 0, samples, False, "0", "made")
    settings = {"diameter": 14.0, "jitter": 1.0, "copies": 1, "window": 999, "n_simulated": 0}
    found = normalise_diameter.normalise_cell_diameter(dataset, seed=0, **{**settings, **options})
    assert found.resampling == Resampling(cell_diameter=14.0)
    return found.splits


def test_training_images_get_one_cell_diameter_and_the_others_about_that():
    parts = {"train": [sample_of("a", 10), sample_of("b", 40)], "test": [sample_of("c", 28)]}
    found = normalised(parts)
    for sample, scale in zip(found["train"], (1.4, 0.35), strict=True):
        assert sample.image.shape[:2] == pytest.approx((120 * scale, 150 * scale), rel=0.05)
        assert sample.count == 12 or scale < 1
    assert found["test"][0].image.shape[0] == pytest.approx(60, rel=0.3)
    assert found["test"][0].count == parts["test"][0].count


def test_copies_differ_in_size_within_the_jitter_and_the_seed_repeats_them():
    parts = {"train": [sample_of("a", 14)]}
    sides = [s.image.shape[0] for s in normalised(parts, jitter=1.5, copies=8)["train"]]
    assert len(set(sides)) > 4
    assert min(sides) >= 119 / 1.5
    assert max(sides) <= 121 * 1.55
    assert sides == [s.image.shape[0] for s in normalised(parts, jitter=1.5, copies=8)["train"]]


def test_simulated_images_are_added_to_training_some_of_them_empty():
    found = normalised({"train": [sample_of("a", 14)]}, n_simulated=3)
    simulated = [s for s in found["train"] if s.name.startswith("simulated")]
    assert {s.image.shape[-1] for s in simulated} == {1}
    assert [s.count > 0 for s in simulated] == [False, True, True]


def test_images_of_noise_are_added_to_training_without_cells():
    parts = {"train": [sample_of("a", 14)]}
    found = [s for s in normalised(parts, n_noise=4)["train"] if s.name.startswith("noise")]
    assert len(found) == 4
    assert all(s.count == 0 and s.image.std() > 0 for s in found)
    again = [s for s in normalised(parts, n_noise=4)["train"] if s.name.startswith("noise")]
    assert all(np.array_equal(a.image, b.image) for a, b in zip(found, again, strict=True))


def test_autofluorescence_is_added_to_its_share_of_the_training_copies_and_moves_no_dot():
    parts = {"train": [sample_of("a", 14), sample_of("b", 14)], "test": [sample_of("c", 14)]}
    bare, lit = (normalised(parts, copies=10, autofluorescence=share) for share in (0.0, 0.5))
    assert np.array_equal(bare["test"][0].image, lit["test"][0].image)
    assert all(np.array_equal(s.dots, bare["train"][0].dots) for s in lit["train"][:10])
    changed = [
        not any(np.array_equal(s.image, b.image) for b in bare["train"]) for s in lit["train"]
    ]
    assert 4 <= sum(changed) <= 16
    all_lit = normalised(parts, copies=10, autofluorescence=1.0)["train"]
    assert all(s.image.dtype == np.uint8 for s in all_lit)
    assert np.mean([s.image.mean() for s in all_lit]) > bare["train"][0].image.mean()


def test_autofluorescence_is_as_bright_as_cells_and_stays_within_the_dtype():
    image, _, _ = discs((90, 120), 14)
    added = [
        normalise_diameter.add_autofluorescence(image, np.random.default_rng(i)).astype(int) - image
        for i in range(20)
    ]
    low, high = np.percentile(image, (1.0, 99.8))
    assert all(a.min() >= 0 for a in added)
    assert max(a.max() for a in added) < 2 * (high - low)
    assert np.median([a.max() for a in added]) > 0.1 * (high - low)
    full = np.full((30, 30, 1), 255, np.uint8)
    full[:10] = 0
    assert normalise_diameter.add_autofluorescence(full, np.random.default_rng(0)).max() == 255


def test_empty_training_images_are_resized_by_the_estimate():
    noise = np.random.default_rng(0).integers(0, 255, (90, 90, 1), np.uint8)
    empty = Sample("empty", noise, np.zeros((0, 2), np.float32), labels=np.zeros((90, 90), int))
    (found,) = normalised({"train": [empty]})["train"]
    assert found.image.shape[0] == round(90 * 14.0 / estimate_diameter(noise)) > 90


def test_a_training_image_without_mask_is_an_error():
    bare = dataclasses.replace(sample_of("bare", 14), labels=None)
    with pytest.raises(ValueError, match="bare: no mask of its cells"):
        normalised({"train": [bare]})
