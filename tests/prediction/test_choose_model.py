"""Which bundled model `predict` takes by a look at the images."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from cellcount_jax.datasets.registry import BENCHMARKS
from cellcount_jax.prediction.choose_model import choose_model, kind_of_pixels, look_at
from cellcount_jax.prediction.options import Options
from cellcount_jax.simulation.simulate import simulate_cells


def made(kind: str, seed: int = 0) -> np.ndarray:
    """A simple image [96, 96, C] uint8 of a kind."""
    cells = simulate_cells(seed, (96, 96), 12)[0].astype(np.float32).mean(axis=-1) / 255
    cells = np.clip(cells / cells.max(), 0, 1)[..., None]
    noise = np.random.default_rng(seed).normal(0, 0.02, cells.shape)
    if kind == "fluorescence":
        values = cells * [1, 1, 1]
    elif kind == "section":
        values = 0.92 - cells * [0.5, 0.8, 0.2] + noise
    elif kind == "smear":
        values = 0.9 - np.clip(3 * cells, 0, 1) * [0.2, 0.35, 0.3] + noise
    else:
        assert kind == "phase"
        values = 0.4 + 0.6 * cells - 0.4 * np.roll(cells, 7, axis=0) + noise
    return np.clip(np.rint(values * 255), 0, 255).astype(np.uint8)


KINDS = {"fluorescence": "nuclei", "section": "tissue", "smear": "blood", "phase": "phase"}


@pytest.mark.parametrize("kind", KINDS)
def test_the_kind_hangs_neither_on_offset_gain_nor_data_type(kind):
    image = made(kind)
    assert kind_of_pixels(image) == kind
    assert kind_of_pixels(image.astype(np.uint16) * 16) == kind
    assert kind_of_pixels((image * 0.7).astype(np.uint8)) == kind


def test_a_constant_image_is_measured_without_a_warning():
    assert look_at(np.full((8, 8, 1), 7, np.uint8)).stain == 0


@pytest.mark.parametrize("mean", [1, 5, 50])
def test_noise_alone_is_no_kind_of_cells(mean, tmp_path):
    noise = np.random.default_rng(0).poisson(mean, (97, 130)).astype(np.uint8)
    assert kind_of_pixels(noise[..., None]) in (None, "fluorescence")
    Image.fromarray(noise).save(tmp_path / "empty.png")
    assert choose_model([tmp_path / "empty.png"], Options())[0] == "nuclei"
    paths = save(tmp_path, ["phase"] * 3)
    assert choose_model([tmp_path / "empty.png", *paths], Options())[0] == "phase"


@pytest.mark.parametrize("side", [1, 3, 5])
def test_images_of_few_pixels(side):
    kind_of_pixels(np.arange(side * side, dtype=np.uint8).reshape(side, side, 1))


def save(folder, kinds):
    paths = []
    for i, kind in enumerate(kinds):
        paths.append(folder / f"{i}.png")
        Image.fromarray(made(kind, i).squeeze()).save(paths[-1])
    return paths


@pytest.mark.parametrize("kind", KINDS)
def test_the_model_of_a_kind_is_chosen_and_the_reason_given(kind, tmp_path):
    model, why = choose_model(save(tmp_path, [kind] * 3), Options())
    assert model == KINDS[kind]
    assert "background" in why


def test_one_unlike_image_among_many_is_outvoted_and_said(tmp_path):
    paths = save(tmp_path, ["fluorescence"] * 4 + ["section"])
    model, why = choose_model(paths, Options())
    assert model == "nuclei"
    assert "4 of 5" in why


def test_several_kinds_are_refused_with_an_example_of_each(tmp_path):
    paths = save(tmp_path, ["fluorescence", "section", "fluorescence", "section"])
    with pytest.raises(ValueError, match=r"several kinds: .*0\.png.*1\.png.*--model") as caught:
        choose_model(paths, Options())
    assert "\n" not in str(caught.value)


def test_images_that_no_model_fits_are_refused(tmp_path):
    Image.fromarray(made("section")[..., 1]).save(tmp_path / "grey.png")
    with pytest.raises(ValueError, match=r"no bundled model fits .*bright background.*train"):
        choose_model([tmp_path / "grey.png"], Options())


def test_volumes_get_the_model_of_volumes_and_their_planes_that_of_images(tmp_path):
    volume = np.stack([made("fluorescence", i)[..., 0] for i in range(5)])
    tifffile.imwrite(tmp_path / "v.tif", volume, imagej=True, metadata={"axes": "ZYX"})
    paths = [tmp_path / "v.tif"]
    assert choose_model(paths, Options())[0] == "nuclei3d"
    assert choose_model(paths, Options(per_slice=True))[0] == "nuclei"


def test_without_a_readable_image_the_table_says_why(tmp_path):
    (tmp_path / "a.png").write_bytes(b"\x89PNG nothing")
    assert choose_model([tmp_path / "a.png"], Options())[0] == "nuclei"


@pytest.mark.parametrize(
    ("name", "kind"),
    [("dsb2018", "fluorescence"), ("dsb2018_stained", "section"), ("usiigaci", "phase"),
     ("chula_rbc12", "smear"), ("vgg_cells", "fluorescence")],
)  # fmt: skip
def test_real_images(raw_dir, name, kind):
    samples = [s for s, _ in zip(BENCHMARKS[name].read(raw_dir / name), range(12), strict=False)]
    assert {kind_of_pixels(s.image) for s in samples} == {kind}
