"""Proposed dots: classical detection, and files that annotation tools open."""

import logging

import numpy as np
import pytest
import tifffile
from PIL import Image

from cellcount_jax.annotation import propose_dots
from cellcount_jax.io.annotations.dots import Dots, read_dots, write_dots
from cellcount_jax.simulation import simulate


@pytest.mark.parametrize("method", ["otsu", "log"])
def test_proposals_find_most_separate_discs_and_split_touching_ones(method):
    yy, xx = np.mgrid[:120, :120]
    centres = [(20, 20), (20, 80), (60, 40), (60, 51), (100, 100), (95, 20)]
    image = np.zeros((120, 120), np.float32)
    for y, x in centres:
        image = np.maximum(image, np.exp(-((((yy - y) ** 2 + (xx - x) ** 2) / 40) ** 2)))
    pixels = (200 * image + 20).astype(np.uint8)[..., None]
    found = propose_dots.propose(pixels, method=method, diameter=11)
    distances = np.linalg.norm(found[:, None] - np.array(centres)[None], axis=-1)
    assert len(found) == len(centres)
    assert distances.min(axis=0).max() < 3
    dark = propose_dots.propose(255 - pixels, method=method, diameter=11, dark=True)
    assert len(dark) == len(centres)
    assert propose_dots.propose(np.zeros((20, 20, 1), np.uint8)).shape == (0, 2)


@pytest.mark.parametrize("method", ["otsu", "log"])
def test_balls_in_flat_voxels_are_found_at_their_centres(method):
    spacing = np.array([4.0, 1.0, 1.0])
    centres = np.array([(4, 10, 10), (4, 10, 40), (7, 30, 20), (12, 30, 20)])  # planes are 4 apart
    grid = np.stack(np.mgrid[:17, :48, :56], axis=-1)
    volume = np.zeros(grid.shape[:-1], np.float32)
    for centre in centres:
        away = np.linalg.norm((grid - centre) * spacing, axis=-1)
        volume = np.maximum(volume, np.exp(-((away / 7) ** 4)))
    pixels = (2000 * volume + 100).astype(np.uint16)[..., None]
    found = propose_dots.propose(pixels, method=method, diameter=13, spacing=spacing)
    assert len(found) == len(centres)
    away = np.linalg.norm((found[:, None] - centres) * spacing, axis=-1)
    assert away.min(axis=0).max() < 4


def test_proposals_for_a_folder_are_napari_files_and_keep_what_is_there(tmp_path, caplog):
    for i, sample in enumerate(simulate.simulate_dataset(0, 2, (96, 96), "vgg")):
        (tmp_path / "images").mkdir(exist_ok=True)
        Image.fromarray(sample.image).save(tmp_path / "images" / f"{i}.png")
    (tmp_path / "dots").mkdir()
    write_dots(tmp_path / "dots" / "0.csv", Dots(np.ones((1, 2), np.float32)), format="napari")
    with caplog.at_level(logging.INFO):
        (tmp_path / "images" / "2.png").write_bytes(b"no image")
        written, failed = propose_dots.propose_folder(tmp_path)
    assert failed == 1
    assert "2.png: " in caplog.text
    assert [p.name for p in written] == ["1.csv"]
    assert "kept" in caplog.text
    path = tmp_path / "dots" / "1.csv"
    assert path.read_text().startswith("index,axis-0,axis-1")
    assert len(read_dots(path).points) == written[path] > 0


def test_every_line_about_an_image_names_it(tmp_path, caplog):
    image = np.random.default_rng(0).normal(300, 20, (40, 40)).astype(np.float32)
    image[20, 20] = 1e6
    tifffile.imwrite(tmp_path / "hot.tif", image)
    tifffile.imwrite(tmp_path / "nan.tif", np.where(image > 1e5, np.nan, image))
    _, failed = propose_dots.propose_folder(tmp_path)
    assert failed == 1
    said = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert len(said) == 2
    assert said[0].startswith(f"{tmp_path / 'hot.tif'}: hot pixels")
    assert said[1].startswith(f"{tmp_path / 'nan.tif'}: 1 of 1600 values are not finite")
