"""Focal consistency where data run out: thin volumes, no cells, no labels, no unlabelled ones."""

import dataclasses

import numpy as np
import pytest
import tifffile
from etils import epath

from cellcount_jax.inference.readout import read_out
from cellcount_jax.io.pairing import FolderError
from cellcount_jax.methods import build_stages
from cellcount_jax.training import run
from configs import consistency_folder
from tests.inference.made_counters import made

pytestmark = pytest.mark.usefixtures("quick_compilation")


def volumes(folder, *, dots, bare, shape=(3, 20, 18)):
    """A lab's folder of `dots` volumes with two dots and `bare` ones without annotations."""
    for part in ("images", "dots"):
        (folder / part).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(dots + bare):
        tifffile.imwrite(
            folder / "images" / f"{i}.tif",
            rng.integers(0, 900, shape, np.uint16),
            imagej=True,
            metadata={"axes": "ZYX"},
        )
        if i < dots:
            (folder / "dots" / f"{i}.csv").write_text("z,y,x\n1,4,5\n2,12,9\n")
    return folder


def config(folder, preset="tiny_volumes"):
    found = consistency_folder.get_config(preset)
    found.data.folder = str(folder)
    found.stages.consistency.crop = (16, 16, 16)
    return found


@pytest.mark.parametrize("depth", [1, 3, 7])
def test_a_volume_thinner_than_the_pooling_is_counted(depth):
    counter = made("consistency_3d")
    found = counter.count(np.random.default_rng(0).random((depth, 21, 18, 1)))
    assert np.isfinite(found.count)
    assert found.maps["inverse_distance"].shape == (depth, 21, 18)
    assert (found.points[:, 0] < depth).all()


def test_thin_volumes_train(tmp_path):
    folder = volumes(tmp_path / "lab", dots=2, bare=1)
    results = run.train(config(folder), epath.Path(tmp_path / "run"))
    assert results["split"] == "train"
    assert np.isfinite(results["mae"])


@pytest.mark.parametrize("preset", ["tiny_volumes", "tiny_gaussian_volumes"])
def test_a_map_without_cells_counts_0(preset):
    (stage,) = build_stages(config("", preset))
    readout = dataclasses.replace(stage.readout, candidates=())
    found = read_out({readout.count_map: np.zeros((4, 8, 8), np.float32)}, readout)
    assert found.count == 0
    assert found.points.shape == (0, 3)


def test_without_labelled_volumes_one_line_says_so(tmp_path):
    folder = volumes(tmp_path / "lab", dots=0, bare=2)
    with pytest.raises(FolderError, match=r"2 images but no annotations; put them in .*dots"):
        run.train(config(folder), epath.Path(tmp_path / "run"))


def test_without_unlabelled_volumes_one_line_says_so(tmp_path):
    folder = volumes(tmp_path / "lab", dots=2, bare=0)
    with pytest.raises(
        ValueError, match="no unlabelled images; add some, or train with the preset sup"
    ):
        run.train(config(folder), epath.Path(tmp_path / "run"))
