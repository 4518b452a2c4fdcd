"""Checkpoints: the latest readable, the best by validation, a final one that stands alone."""

import json
from pathlib import Path

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath

from cellcount_jax.runtime import checkpoint


@flax.struct.dataclass
class State:
    step: jax.Array
    weights: dict


def state(step: int) -> State:
    return State(jnp.int32(step), {"w": jnp.full((3,), float(step)), "empty": {}})


@pytest.fixture
def folder(tmp_path):
    return epath.Path(tmp_path) / "stage"


def test_keeps_latest_and_best_and_restores_both(folder):
    manager = checkpoint.open_manager(folder)
    for step, error in ((1, 5.0), (2, 2.0), (3, 4.0), (4, 3.0)):
        checkpoint.save(manager, state(step), {"seconds": float(step)}, validation=error)
    manager.wait_until_finished()
    assert sorted(manager.all_steps()) == [2, 4]
    assert checkpoint.best_step(manager) == 2
    latest, facts = checkpoint.restore_latest(manager, state(0))
    assert int(latest.step) == 4
    assert facts == {"seconds": 4.0}
    best, _ = checkpoint.restore(manager, 2, state(0))
    np.testing.assert_array_equal(best.weights["w"], [2, 2, 2])
    manager.close()


def test_a_damaged_step_is_passed_over(folder):
    manager = checkpoint.open_manager(folder)
    for step, error in ((1, 1.0), (2, 2.0)):
        checkpoint.save(manager, state(step), {}, validation=error)
    manager.wait_until_finished()
    for path in Path(folder / "steps" / "2").rglob("*"):
        if path.is_file():
            path.write_bytes(b"")
    latest, _ = checkpoint.restore_latest(manager, state(0))
    assert int(latest.step) == 1
    assert (folder / "damaged" / "2").exists()  # nothing is ever deleted
    checkpoint.save(manager, state(2), {}, validation=0.5)  # its place is free again
    manager.wait_until_finished()
    assert int(checkpoint.restore_latest(manager, state(0))[0].step) == 2
    manager.close()


@pytest.mark.parametrize(
    "error",
    [
        OSError(5, "Input/output error"),
        PermissionError(13, "Permission denied"),
        MemoryError(),
        ValueError("UNAVAILABLE: Error reading: Input/output error [OS error 5]"),
    ],
)
def test_a_step_is_left_alone_where_the_disk_may_be_at_fault(folder, monkeypatch, error):
    manager = checkpoint.open_manager(folder)
    for step in (1, 2):
        checkpoint.save(manager, state(step), {}, validation=float(step))
    manager.wait_until_finished()

    def restore(*_):
        raise RuntimeError("damaged") from error

    with monkeypatch.context() as patched:
        patched.setattr(checkpoint, "restore", restore)
        with pytest.raises(checkpoint.CheckpointError, match="steps/2: cannot be read now"):
            checkpoint.restore_latest(manager, state(0))
    assert int(checkpoint.restore_latest(manager, state(0))[0].step) == 2
    manager.close()


def test_a_changed_fact_is_refused_and_checkpoints_without_a_checksum_are_read(folder):
    facts = {"readout": {"count_scale": 1.25}, "radius": 5.0}
    checkpoint.save_final(folder, {"w": np.ones(2)}, facts)
    assert checkpoint.load_final(folder)[1] == facts == checkpoint.load_facts(folder)
    (path,) = [p for p in Path(folder / "final").rglob("*") if "count_scale" in _text(p)]
    whole = path.read_text()
    path.write_text(whole.replace("1.25", "801.25"))
    for read in (checkpoint.load_final, checkpoint.load_facts):
        with pytest.raises(checkpoint.CheckpointError, match="were changed after training"):
            read(folder)
    stored = json.loads(whole)
    del stored["checksum"]
    path.write_text(json.dumps(stored))
    assert checkpoint.load_facts(folder) == facts


def _text(path):
    return path.read_text(errors="replace") if path.is_file() else ""


def test_relative_folders_are_fine(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = epath.Path("runs/one")
    manager = checkpoint.open_manager(folder)
    checkpoint.save(manager, state(1), {}, validation=1.0)
    manager.wait_until_finished()
    latest, _ = checkpoint.restore_latest(manager, state(0))
    assert int(latest.step) == 1
    manager.close()
    checkpoint.save_final(folder, {"trained": {"w": jnp.ones(2)}}, {"method": "m"})
    assert checkpoint.is_finished(folder)
    assert checkpoint.load_facts(folder) == {"method": "m"}
    np.testing.assert_array_equal(checkpoint.load_final(folder)[0]["trained"]["w"], [1, 1])
    assert checkpoint.absolute(epath.Path("gs://bucket/run")) == epath.Path("gs://bucket/run")


def test_final_variables_stand_alone(folder):
    assert not checkpoint.is_finished(folder)
    with pytest.raises(checkpoint.CheckpointError, match="no finished stage"):
        checkpoint.load_final(folder)
    variables = {"trained": {"a": {"kernel": jnp.ones((2, 2))}}, "frozen": {}, "extras": {}}
    checkpoint.save_final(folder, variables, {"method": "m", "numbers": [1, 2]})
    found, facts = checkpoint.load_final(folder)
    np.testing.assert_array_equal(found["trained"]["a"]["kernel"], np.ones((2, 2)))
    assert not found.get("frozen")
    assert facts == {"method": "m", "numbers": [1, 2]}
    assert checkpoint.load_facts(folder) == facts
