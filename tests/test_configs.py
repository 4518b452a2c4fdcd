"""Every config in configs/: its presets build, and its tiny one trains, resumes and ends."""

import importlib
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from etils import epath
from ml_collections import ConfigDict
from PIL import Image

import cellcount_jax
from cellcount_jax.methods import METHODS, build_stages
from cellcount_jax.runtime import checkpoint
from cellcount_jax.training import programs, run
from cellcount_jax.training.step import make_step
from tests.datasets import sample_sets

FOLDER = Path(cellcount_jax.__file__).parent.parent / "configs"
NAMES = sorted(p.stem for p in FOLDER.glob("*.py") if p.stem not in ("__init__", "common"))

ONE_PER_METHOD = ("bundled", "consistency_folder", "countxplain_mbm", "csrnet_mbm", "dcl_vgg")
"""Configs that are trained with every run of the tests; `-m slow` trains the others, too."""


@pytest.mark.parametrize("name", NAMES)
def test_presets_build_the_stages_that_they_plan(name):
    module = importlib.import_module(f"configs.{name}")
    for preset in ("", "quick", "tiny"):
        config = module.get_config(preset)
        stages = build_stages(config)
        assert sorted(s.name for s in stages) == list(config.stages.keys())
    with pytest.raises(ValueError, match="no preset 'quik'"):
        module.get_config("quik")


@pytest.mark.parametrize("name", NAMES)
def test_docstring_says_what_it_reproduces_and_how(name):
    text = importlib.import_module(f"configs.{name}").__doc__
    assert f"--config=configs/{name}.py:quick" in text
    assert "Protocol" in text
    assert "MAE" in text


def test_every_method_has_a_config_that_is_trained_here():
    names = ONE_PER_METHOD
    used = [importlib.import_module(f"configs.{n}").get_config("tiny").method for n in names]
    assert sorted(used) == sorted(METHODS)


SMALL_PATCHES = {
    "mbm": {"tile": 12, "resize": 32},
    "adi": {"resize": 32},
    "idcia": {"resize": 32},
    "dcc": {"pad_square": True, "resize_to_multiple": 32, "tile": 32},
}
"""The rules of the configs for the small images that `sample_sets` writes."""


def lab_folder(folder: Path) -> Path:
    """Four small images, three of them with dots."""
    for part in ("images", "dots"):
        (folder / part).mkdir(parents=True)
    for i in range(4):
        pixels = np.random.default_rng(i).integers(0, 200, (24, 20), np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{i}.png")
        if i < 3:
            (folder / "dots" / f"{i}.csv").write_text("y,x\n3,4\n10,12\n")
    return folder


def small_run(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> ConfigDict:
    """A tiny config, of two steps, on small raw files in the layout of its dataset."""
    config = importlib.import_module(f"configs.{name}").get_config("tiny")
    is_consistency = config.method == "consistency"
    if config.data.name is None:
        config.data.folder = str(lab_folder(folder / "lab"))
    else:
        # With half of 24 to train on, some are left beside the 8 that keep their labels.
        sample_sets.write(config.data.name, folder / "raw", 24 if is_consistency else 12)
    monkeypatch.setenv("CELLCOUNT_RAW_DIR", str(folder / "raw"))
    monkeypatch.setenv("TFDS_DATA_DIR", str(folder / "prepared"))
    if config.data.patches:
        config.data.patches = ConfigDict(SMALL_PATCHES[config.data.name])
    for plan in config.stages.values():
        plan.crop = plan.crop and (32 if len(plan.crop) == 2 else 16,) * len(plan.crop)
        plan.batch_size.labelled = 32  # An epoch is one step, so that each step is saved.
        assert plan.steps == 2
    return config


class TracedError(Exception):
    """The first step was traced, and is not to be compiled."""


@pytest.mark.usefixtures("quick_compilation")
@pytest.mark.parametrize("name", [n for n in NAMES if n not in ONE_PER_METHOD])
def test_a_batch_of_every_other_config_fits_its_network(name, tmp_path, monkeypatch):
    """From raw files to the shapes of a step's gradients, without compiling it."""

    def trace(stage, tx, pipeline, state, frozen, plan, *, seed, mesh):
        make = make_step(stage, tx, pipeline.sampler, mesh, seed=seed, ema_decay=plan.ema_decay)
        after, metrics = make.eval_shape(state, frozen, pipeline.data)
        assert jax.tree.map(lambda x: x.shape, after) == jax.tree.map(lambda x: x.shape, state)
        assert "loss" in metrics
        raise TracedError

    monkeypatch.setattr(programs, "compile_steps", trace)
    with pytest.raises(TracedError):
        run.train(small_run(name, tmp_path, monkeypatch), epath.Path(tmp_path / "run"))


@pytest.mark.usefixtures("quick_compilation")
@pytest.mark.parametrize(
    "name", [n if n in ONE_PER_METHOD else pytest.param(n, marks=pytest.mark.slow) for n in NAMES]
)
def test_two_steps_of_every_config_and_its_resumption(name, tmp_path, monkeypatch):
    """Trains two steps from raw files; its state after the first resumes to the same weights."""
    config = small_run(name, tmp_path, monkeypatch)
    whole, broken = epath.Path(tmp_path / "whole"), epath.Path(tmp_path / "broken")
    real = checkpoint.save

    def copies_the_run(manager, state, *args, **kwargs):
        real(manager, state, *args, **kwargs)
        manager.wait_until_finished()
        if not broken.exists():  # What a kill after the first step would leave.
            assert int(state.step) == 1
            shutil.copytree(whole, broken)

    monkeypatch.setattr(checkpoint, "save", copies_the_run)
    results = run.train(config, whole)
    assert results["n_images"] > 0

    def dies_after_saving(manager, state, *args, **kwargs):
        real(manager, state, *args, **kwargs)
        manager.wait_until_finished()
        if int(state.step) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "save", dies_after_saving)
    for _ in list(config.stages)[1:]:
        with pytest.raises(KeyboardInterrupt):
            run.train(config, broken)
    again = run.train(config, broken)
    assert again["mae"] == results["mae"]
    for stage in config.stages:
        a, b = (checkpoint.load_final(w / "checkpoints" / stage)[0] for w in (whole, broken))
        jax.tree.map(np.testing.assert_array_equal, a, b)
