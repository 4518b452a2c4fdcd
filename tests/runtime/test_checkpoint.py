"""Checkpoints: the latest readable, the best by validation, a final one that stands alone."""

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
    manager.close()


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
