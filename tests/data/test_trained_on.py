"""Images that are not as those a model was trained on: mended, remarked on or refused."""

import json

import numpy as np
import pytest

from cellcount_jax.data import resampling, trained_on
from cellcount_jax.data.preprocess import Preprocessing
from cellcount_jax.data.resampling import Resampling
from cellcount_jax.data.sample import Sample

BY_TYPE = Preprocessing(channels=1, normalise="dtype")
BY_IMAGE = Preprocessing(channels=1, normalise="percentile")


def _grey(seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(20, 250, (40, 50, 1)).astype(np.uint8)


def _in_colour(grey: np.ndarray, *places: int) -> np.ndarray:
    image = np.zeros((*grey.shape[:-1], 3), grey.dtype)
    for place in places:
        image[..., place] = grey[..., 0]
    return image


def _facts(*images: np.ndarray) -> dict:
    samples = [Sample(str(i), image, None) for i, image in enumerate(images)]
    return json.loads(json.dumps(trained_on.describe(samples)))


GREY = _facts(_grey(0), _grey(1))
BLUE = _facts(_in_colour(_grey(0), 2), _in_colour(_grey(1), 2))


def test_facts_name_channels_types_and_sizes():
    assert BLUE["kind"] == "only blue"
    assert BLUE["channels"] == 3
    assert GREY["types"] == ["uint8"]
    assert GREY["ndim"] == 2
    assert GREY["shape"] == [40, 50]
    assert GREY["pixel_size"] is None
    assert 0.9 < GREY["bright"][0] <= GREY["bright"][1] < 1


@pytest.mark.parametrize("bits", [8, 10, 12, 14])
def test_fewer_bits_in_a_file_of_16_count_as_the_same_bits_of_8(bits, caplog):
    image = _grey(2)
    stored = np.round(image / 255.0 * (2**bits - 1)).astype(np.uint16)
    found = trained_on.fit(stored, GREY, BY_TYPE)
    np.testing.assert_allclose(found, image / 255.0, atol=0.5 / (2**bits - 1) + 1e-6)
    assert f"holds {bits} bits in a file of 16" in caplog.text


def test_one_hot_pixel_does_not_hide_the_bits(caplog):
    stored = _grey(2).astype(np.uint16)
    stored[3, 4] = 65535
    found = trained_on.fit(stored, GREY, BY_TYPE)
    assert 0.9 < found.max() < 1
    assert "holds 8 bits" in caplog.text


def test_the_type_that_a_model_was_trained_on_is_not_touched(caplog):
    stored = (_grey(0).astype(np.uint16)) * 257
    assert trained_on.fit(stored, GREY, BY_TYPE) is stored
    dim = _grey(0).astype(np.uint16)
    assert trained_on.fit(dim, _facts(dim), BY_TYPE) is dim
    assert not caplog.text


def test_a_much_brighter_type_is_refused():
    with pytest.raises(ValueError, match="so the count would be wrong"):
        trained_on.fit(_grey(0), _facts(_grey(1).astype(np.uint16) * 4), BY_TYPE)


def test_bits_of_another_intensity_are_refused():
    stored = np.round(_grey(0) / 255.0 * 3000).astype(np.uint16)
    with pytest.raises(ValueError, match="% of the range"):
        trained_on.fit(stored, GREY, BY_TYPE)


def test_a_dark_image_of_the_same_type_is_remarked_on(caplog):
    trained_on.fit(_grey(0) // 5, GREY, BY_TYPE)
    assert "unless it is empty" in caplog.text


@pytest.mark.parametrize("preprocessing", [BY_TYPE, BY_IMAGE])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_one_colour_counts_as_its_grey_form(preprocessing, place, caplog):
    noisy = _in_colour(_grey(0), place)
    noisy[..., (place + 1) % 3] = np.random.default_rng(0).integers(0, 4, noisy.shape[:2])
    np.testing.assert_array_equal(trained_on.fit(noisy, GREY, preprocessing), _grey(0))
    assert "holds only" in caplog.text


def test_grey_saved_as_colour_is_grey(caplog):
    found = trained_on.fit(_in_colour(_grey(0), 0, 1, 2), GREY, BY_TYPE)
    np.testing.assert_array_equal(found, _grey(0))
    assert not caplog.text


def test_one_colour_is_moved_to_that_of_the_training_images():
    found = trained_on.fit(_in_colour(_grey(0), 1), BLUE, Preprocessing(channels=3))
    np.testing.assert_array_equal(found, _in_colour(_grey(0), 2))


@pytest.mark.parametrize("image", [_grey(0), _in_colour(_grey(0), 0, 1, 2)])
def test_grey_images_are_refused_by_a_model_of_colour_images(image):
    with pytest.raises(ValueError, match="trained on colour images"):
        trained_on.fit(image, BLUE, Preprocessing(channels=3))


def test_colour_under_a_grey_model_is_remarked_on(caplog):
    image = np.random.default_rng(0).integers(0, 255, (40, 50, 3)).astype(np.uint8)
    assert trained_on.fit(image, GREY, BY_IMAGE) is image
    assert "its channels are averaged" in caplog.text


class Parts:
    """An image that is read by parts."""

    def __init__(self, array: np.ndarray):
        self.array, self.shape, self.dtype = array, array.shape, array.dtype

    def read(self, slices):
        return self.array[slices]


def test_parts_are_changed_as_the_whole():
    found = trained_on.fit(Parts(_in_colour(_grey(0), 2)), GREY, BY_TYPE)
    assert found.shape == (40, 50, 1)
    np.testing.assert_array_equal(found.read((slice(3, 9), slice(5, 20))), _grey(0)[3:9, 5:20])


def _named(*names: str) -> dict:
    image = np.stack([_grey(i)[..., 0] for i in range(len(names))], axis=-1)
    sample = Sample("a", image, None, channel_names=names)
    return json.loads(json.dumps(trained_on.describe([sample])))


@pytest.mark.parametrize("by_parts", [False, True])
@pytest.mark.parametrize(
    ("trained", "names", "order"),
    [
        (("DAPI",), ("GFP", "dapi ", "TRITC"), [1]),
        (("GFP", "DAPI"), ("DAPI", "GFP"), [1, 0]),
        (("DAPI", "GFP"), ("DAPI", "GFP"), None),
        (("DAPI", "GFP"), (), None),
        ((), ("DAPI", "GFP"), None),
    ],
)
def test_channels_are_taken_by_the_names_of_training(trained, names, order, by_parts, caplog):
    facts = _named(*trained) if trained else {**_named("a", "b"), "channel_names": []}
    image = np.stack([_grey(i)[..., 0] for i in range(len(names) or 2)], axis=-1)
    if order is None:
        assert trained_on.in_known_channels(image, names, facts) is image
        assert not caplog.text
        return
    found = trained_on.in_known_channels(Parts(image) if by_parts else image, names, facts)
    assert found.shape == (40, 50, len(order))
    values = found.read() if by_parts else found
    np.testing.assert_array_equal(values, image[..., order])
    assert "counted in" in caplog.text


def test_channels_of_other_names_are_remarked_on(caplog):
    image = _grey(0)
    assert trained_on.in_known_channels(image, ("GFP",), _named("DAPI")) is image
    assert "are GFP; the model was trained on DAPI" in caplog.text


@pytest.mark.parametrize("facts", [GREY, None])
def test_too_many_channels_are_refused_by_name(facts):
    image = np.concatenate([_grey(0), _grey(1)], axis=-1)
    line = r"has 2 channels \(DAPI, GFP\), and the model was trained on images of 1 \(grey\)"
    with pytest.raises(ValueError, match=line):
        trained_on.fit(image, facts, BY_TYPE, names=("DAPI", "GFP"))
    with pytest.raises(ValueError, match="has 2 channels, and the model"):
        trained_on.fit(image, facts, BY_TYPE)


def _discs(diameter: float) -> np.ndarray:
    y, x = np.mgrid[:200, :200]
    image = np.random.default_rng(0).normal(20, 2, (200, 200))
    for cy in range(30, 200, 70):
        for cx in range(30, 200, 70):
            image += 150 * (np.hypot(y - cy, x - cx) < diameter / 2)
    return image[..., None].astype(np.uint8)


@pytest.mark.parametrize(
    ("size", "um", "scale", "said"),
    [
        (20, 0.5, 1.0, ""),
        (10, 1.0, 2.0, ""),
        (20, None, 1.0, ""),
        (20, 1.0, 1.0, "a pixel is 1 um, and 0.5 to 0.6 um"),
        (48, 0.5, 1.0, "pixels wide, and those of the training images"),
        (20, 0.22, 0.4, "pixels wide, and those of the training images"),
    ],
)
def test_pixels_and_cells_of_another_size_are_remarked_on(size, um, scale, said, caplog):
    widths = (18, 19, 20, 21, 22)
    samples = [Sample(f"{i}", _discs(i), None, spacing=(0.5, 0.5 + (i == 20) / 10)) for i in widths]
    facts = json.loads(json.dumps(trained_on.describe(samples)))
    assert facts["pixel_size"] == [0.5, 0.6]
    assert facts["cell_size"] == pytest.approx([18, 22], rel=0.2)
    spacing = None if um is None else (um, um)
    Resampling().compare(_discs(size), facts, scale, spacing)
    assert said in caplog.text
    assert bool(said) == bool(caplog.text)


def test_cells_of_few_images_and_of_one_size_are_not_compared():
    few = [Sample("a", _discs(20), None)] * 4
    assert trained_on.describe(few)["cell_size"] is None
    assert trained_on.describe(few * 2)["cell_size"] is not None
    assert trained_on.describe(few * 2, measure_cells=False)["cell_size"] is None


def test_sizes_at_the_limit_of_the_estimate_are_not_taken_for_cells(monkeypatch):
    samples = [Sample(str(i), _grey(i), None) for i in range(6)]
    sizes = iter([20.0, 30, 25, 21, 28, 26, 20.0, 30, 25, 21, 200, 26])
    monkeypatch.setattr(trained_on, "central_diameter", lambda image: next(sizes))
    assert trained_on.describe(samples)["cell_size"] == [20, 30]
    assert trained_on.describe(samples)["cell_size"] is None


@pytest.mark.parametrize(("found", "said"), [(200.0, False), (190.0, True)])
def test_a_size_at_the_limit_of_the_estimate_is_not_compared(found, said, monkeypatch, caplog):
    monkeypatch.setattr(resampling, "central_diameter", lambda image: found)
    Resampling().compare(_grey(0), {"cell_size": [20, 30]}, 0.5)
    assert bool(caplog.text) == said


def test_models_without_these_facts_say_what_they_cannot_know(caplog):
    stored = _grey(0).astype(np.uint16)
    assert trained_on.fit(stored, None, BY_TYPE) is stored
    assert "uses 8 of 16 bits" in caplog.text


def test_an_empty_image_fits_any_model_and_is_said_to_show_nothing(caplog):
    black = np.zeros((8, 8, 3), np.uint8)
    assert trained_on.fit(black, GREY, BY_IMAGE) is black
    assert caplog.messages == ["is constant (value 0): no cells can be counted"]


@pytest.mark.parametrize(("side", "said"), [(0, False), (20, True)])
def test_clipped_or_filled_parts_are_said(caplog, side, said):
    image = _grey(0).astype(np.uint16) * 200
    image[5 : 5 + side, 5 : 5 + side] = 65535
    trained_on.fit(image, None, BY_IMAGE)
    assert ("20 % of its values are the highest" in caplog.text) == said
