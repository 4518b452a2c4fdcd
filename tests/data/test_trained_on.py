"""Images that are not as those a model was trained on: mended, remarked on or refused."""

import json

import numpy as np
import pytest

from cellcount_jax.data import trained_on
from cellcount_jax.data.preprocess import Preprocessing
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


def test_bits_of_another_brightness_are_refused():
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


def test_parts_are_changed_as_the_whole():
    class Parts:
        array = _in_colour(_grey(0), 2)
        shape, dtype = array.shape, array.dtype

        def read(self, slices):
            return self.array[slices]

    found = trained_on.fit(Parts(), GREY, BY_TYPE)
    assert found.shape == (40, 50, 1)
    np.testing.assert_array_equal(found.read((slice(3, 9), slice(5, 20))), _grey(0)[3:9, 5:20])


def test_models_without_these_facts_say_what_they_cannot_know(caplog):
    stored = _grey(0).astype(np.uint16)
    assert trained_on.fit(stored, None, BY_TYPE) is stored
    assert "uses 8 of 16 bits" in caplog.text


def test_an_empty_image_fits_any_model_and_is_said_to_show_nothing(caplog):
    black = np.zeros((8, 8, 3), np.uint8)
    assert trained_on.fit(black, GREY, BY_IMAGE) is black
    assert caplog.messages == ["is the same everywhere (value 0): it shows nothing"]


@pytest.mark.parametrize(("side", "said"), [(0, False), (20, True)])
def test_clipped_or_filled_parts_are_said(caplog, side, said):
    image = _grey(0).astype(np.uint16) * 200
    image[5 : 5 + side, 5 : 5 + side] = 65535
    trained_on.fit(image, None, BY_IMAGE)
    assert ("20 % of its values are the highest" in caplog.text) == said
