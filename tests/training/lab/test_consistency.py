"""Training a lab's counter on images with and without dots."""

import json

import numpy as np
import pytest
from etils import epath
from scipy import ndimage

from cellcount_jax.datasets import folder
from cellcount_jax.inference.counter import Counter
from cellcount_jax.io.annotations.dots import Dots, write_dots
from cellcount_jax.io.write_ome import write_ome_tiff
from cellcount_jax.training.lab import consistency, train_folder

pytestmark = pytest.mark.usefixtures("quick_compilation")


def write_volumes(path, n: int, *, dots: bool, spacing=(2.0, 1.0, 1.0), shape=(16, 24, 24)) -> None:
    rng = np.random.default_rng(n)
    for i in range(n):
        points = rng.uniform(2, np.array(shape) - 3, (6, 3)).astype(np.float32)
        volume = rng.normal(100, 5, shape)
        at = np.zeros(shape, bool)
        at[tuple(np.rint(points).astype(int).T)] = True
        volume += 300 * ndimage.binary_dilation(at)
        (path / "images").mkdir(parents=True, exist_ok=True)
        name = f"{'with' if dots else 'without'}{i}"
        pixels = volume.astype(np.uint16)
        write_ome_tiff(path / "images" / f"{name}.ome.tif", pixels, axes="zyx", spacing=spacing)
        if dots:
            (path / "dots").mkdir(exist_ok=True)
            write_dots(path / "dots" / f"{name}.csv", Dots(points), format="napari")


def test_images_without_dots_come_from_the_folder_and_from_others(tmp_path):
    write_volumes(tmp_path / "lab", 2, dots=True)
    write_volumes(tmp_path / "lab", 1, dots=False)
    write_volumes(tmp_path / "more", 2, dots=False)
    write_volumes(tmp_path / "other", 1, dots=False, spacing=(2.0, 0.5, 0.5))
    write_volumes(tmp_path / "wide", 1, dots=False, spacing=None)
    source = folder.load_folder(tmp_path / "lab")
    more = folder.read_unlabelled([tmp_path / "more"])
    found = folder.with_unlabelled(source, more)
    assert [len(found.splits[name]) for name in ("train", "unlabelled")] == [2, 3]
    assert all(sample.dots is None for sample in found.splits["unlabelled"])
    assert found.split_hash != source.split_hash
    assert "3 unlabelled" in found.description
    with pytest.raises(ValueError, match=r"without0.*pixel size .*--voxel-size"):
        folder.with_unlabelled(source, folder.read_unlabelled([tmp_path / "other"]))
    assert folder.with_unlabelled(source, folder.read_unlabelled([tmp_path / "wide"]))
    (tmp_path / "lab" / "images" / "without0.ome.tif").unlink()
    source = folder.load_folder(tmp_path / "lab")
    with pytest.raises(folder.FolderError, match="--unlabelled"):
        folder.with_unlabelled(source, folder.read_unlabelled([]))


@pytest.mark.slow
def test_the_command_trains_volumes_by_focal_consistency(tmp_path, monkeypatch):
    monkeypatch.setattr(consistency, "BATCH", {3: {"labelled": 1, "unlabelled": 1}})
    write_volumes(tmp_path / "lab", 2, dots=True)
    write_volumes(tmp_path / "more", 1, dots=False)
    out = tmp_path / "run"
    results = train_folder.train_folder(
        tmp_path / "lab", epath.Path(out), steps=2, unlabelled=[tmp_path / "more"]
    )
    assert results["method"] == "consistency"
    logged = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert any("consistency" in line for line in logged)
    counter = Counter.load(out)
    assert counter.stage.window == (64, 48, 48)
    assert counter.resampling.pixel_size == pytest.approx((1.0, 1.0, 1.0), abs=0.1)
    assert np.isfinite(counter.count(tmp_path / "more" / "images" / "without0.ome.tif").count)
