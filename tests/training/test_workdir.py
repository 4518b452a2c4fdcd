"""Whose a workdir is: one config, the same images and dots, one process at a time."""

import dataclasses
import json
import multiprocessing

import numpy as np
import pytest
from etils import epath

from cellcount_jax import defaults
from cellcount_jax.data.sample import Sample
from cellcount_jax.datasets.load import SplitDataset
from cellcount_jax.runtime.lock import LockedError, exclusive
from cellcount_jax.training import workdir as workdirs


def lab(dots=((1.0, 2.0),), value: int = 0) -> SplitDataset:
    image = np.full((8, 9, 1), value, np.uint8)
    samples = [Sample(name, image, np.array(dots, np.float32)) for name in ("a.png", "b.png")]
    return SplitDataset("lab", "random", 0, {"train": samples}, False, "0", "two images")


def test_a_workdir_belongs_to_one_config(tmp_path):
    workdir, config = epath.Path(tmp_path), defaults.run("density")
    workdirs.check_config(config, workdir)
    workdirs.claim(config, lab(), workdir, is_lab=False)
    workdirs.check_config(config, workdir)
    config.seed = 3
    with pytest.raises(workdirs.WorkdirError, match=r"another config \(seed is 0 there, 3 here\)"):
        workdirs.check_config(config, workdir)


def test_a_workdir_of_another_version_is_an_error(tmp_path):
    workdir, config = epath.Path(tmp_path), defaults.run("density")
    # As versions before wrote it.
    (workdir / "config.json").write_text(config.to_json_best_effort())
    with pytest.raises(workdirs.WorkdirError, match=r"another version .*config schema 1,"):
        workdirs.check_config(config, workdir)


def test_a_damaged_file_is_named_with_what_to_do(tmp_path):
    (tmp_path / "config.json").write_text('{"schema": 2, "see')
    with pytest.raises(workdirs.WorkdirError, match=r"config\.json: damaged .*train again"):
        workdirs.check_config(defaults.run("density"), epath.Path(tmp_path))


def test_where_a_lab_folder_lies_does_not_matter_but_what_is_in_it_does(tmp_path):
    workdir, config = epath.Path(tmp_path), defaults.run("density")
    config.data.name = "my_cells"
    workdirs.claim(config, lab(), workdir, is_lab=True)
    config.data.name = "/moved/my_cells"
    workdirs.check_config(config, workdir)
    workdirs.check_data(lab(), workdir)
    for changed in (lab(dots=((2.0, 1.0),)), lab(value=1)):
        with pytest.raises(workdirs.WorkdirError, match=r"2 of 2 images .*\(a\.png, b\.png\)"):
            workdirs.check_data(changed, workdir)
    more = lab()
    more.splits["train"].append(dataclasses.replace(more.splits["train"][0], name="c.png"))
    with pytest.raises(workdirs.WorkdirError, match=r"1 of 3 images .*\(c\.png\)"):
        workdirs.check_data(more, workdir)


def test_a_claim_without_a_checkpoint_can_be_taken_back(tmp_path):
    workdir = epath.Path(tmp_path / "run")
    with workdirs.locked(workdir):
        workdirs.claim(defaults.run("density"), lab(), workdir, is_lab=True)
        workdirs.release(workdir)
    assert not workdir.exists()


def _hold(path, held, done):
    with exclusive(path, what="the folder", wait=False):
        held.set()
        done.wait(60)


def test_a_lock_names_its_owner_and_ends_with_it(tmp_path):
    path, context = tmp_path / ".lock", multiprocessing.get_context("spawn")
    held, done = context.Event(), context.Event()
    owner = context.Process(target=_hold, args=(path, held, done))
    owner.start()
    assert held.wait(60)
    message = rf"the folder is in use by process {owner.pid} on .* since"
    with (
        pytest.raises(LockedError, match=message),
        exclusive(path, what="the folder", wait=False),
    ):
        pass
    owner.kill()  # as when a machine stops: nobody takes the lock back
    owner.join()
    with exclusive(path, what="the folder", wait=False):
        assert "process" in path.read_text()


def test_fingerprints_are_plain_json():
    found = workdirs.fingerprint(lab())
    assert json.loads(json.dumps(found)) == found
    assert len(set(found.values())) == 1  # both images and their dots are alike
