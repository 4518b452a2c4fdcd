"""Checkpoints of a run; the only file that uses Orbax.

A stage's folder holds `steps/` (the latest and the best state of training, from which it resumes)
and `final/` (the chosen variables with all that is needed to count with them). A stage is finished
when `final/` exists; Orbax writes to a temporary name and renames, so that a killed run leaves no
partial checkpoint.
"""

import hashlib
import json
import logging
import operator
import os
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

log = logging.getLogger(__name__)

BEST_METRIC = "validation"


PASSING = (
    *("input/output error", "permission denied", "too many open files", "stale file handle"),
    *("timed out", "temporarily unavailable", "cannot allocate memory", "resource_exhausted"),
)
"""Words in messages of errors that say nothing about the files themselves."""

CHECKSUM = "checksum"
"""Name of the digest of all other facts of a finished stage."""


class CheckpointError(ValueError):
    """A checkpoint is missing or damaged; one line says which and what to do."""


def absolute(folder: epath.Path) -> epath.Path:
    """The folder as Orbax needs it: absolute, unless it is an address such as gs://."""
    text = os.fspath(folder)
    return folder if "://" in text else epath.Path(os.path.abspath(text))


def open_manager(folder: epath.Path) -> ocp.CheckpointManager:
    """Manager of a stage's running checkpoints: keeps the latest and the best one."""
    policies = ocp.checkpoint_managers.preservation_policy
    error_of = operator.itemgetter(BEST_METRIC)
    best = policies.BestN(
        get_metric_fn=error_of, reverse=True, n=1, keep_checkpoints_without_metrics=False
    )
    options = ocp.CheckpointManagerOptions(
        create=True,
        cleanup_tmp_directories=True,
        preservation_policy=policies.AnyPreservationPolicy([policies.LatestN(n=1), best]),
        # Without these, best_step() would be the latest step whatever the policy keeps.
        best_fn=error_of,
        best_mode="min",
    )
    return ocp.CheckpointManager(absolute(folder) / "steps", options=options)


def save(
    manager: ocp.CheckpointManager, state: Any, facts: Mapping[str, Any], *, validation: float
) -> None:
    """Saves a training state in the background.

    Args:
      manager: Checkpoint manager of the stage.
      state: A dataclass of arrays with a field `step`.
      facts: Plain JSON beside it (seconds of training so far).
      validation: The error by which the best checkpoint is chosen; smaller is better.
    """
    state_args, facts_args = ocp.args.StandardSave(state), ocp.args.JsonSave(dict(facts))
    items = ocp.args.Composite(state=state_args, facts=facts_args)
    metrics = {BEST_METRIC: float(validation)}
    manager.save(int(state.step), args=items, metrics=metrics, force=True)


def restore_latest(manager: ocp.CheckpointManager, like: Any) -> tuple[Any, dict] | None:
    """The newest state that can be read, in the shape and on the devices of `like`; else None.

    A step whose files are damaged is moved to the folder `damaged`, with a warning.

    Raises:
      CheckpointError: A step cannot be read for a reason that may pass, such as a busy disk.
    """
    for step in sorted(manager.all_steps(), reverse=True):
        try:
            return restore(manager, step, like)
        except Exception as error:  # Orbax raises many kinds for damaged files.
            line, folder = _first_line(error), epath.Path(manager.directory)
            if _may_pass(error):
                raise CheckpointError(
                    f"{folder / str(step)}: cannot be read now ({line}); nothing was changed, run "
                    "the command again when the disk can be read"
                ) from error
            aside = folder.parent / "damaged" / str(step)
            log.warning("%s: step %d cannot be read (%s); kept as %s", folder, step, line, aside)
            aside.parent.mkdir(parents=True, exist_ok=True)
            if aside.exists():
                aside.rmtree()
            (folder / str(step)).rename(aside)
            manager.reload()
    return None


def _may_pass(error: BaseException) -> bool:
    """Whether the files may be whole: the disk, the network or the memory failed."""
    text = str(error).lower()
    missing = (FileNotFoundError, NotADirectoryError, IsADirectoryError)
    if isinstance(error, OSError) and not isinstance(error, missing):
        return True
    if isinstance(error, MemoryError) or any(word in text for word in PASSING):
        return True
    before = error.__cause__ or error.__context__
    return before is not None and _may_pass(before)


def restore(manager: ocp.CheckpointManager, step: int, like: Any) -> tuple[Any, dict]:
    """State and facts of one step, in the shape and on the devices of `like`."""
    abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
    items = ocp.args.Composite(
        state=ocp.args.StandardRestore(abstract), facts=ocp.args.JsonRestore()
    )
    found = manager.restore(step, args=items)
    return found.state, dict(found.facts)


def best_step(manager: ocp.CheckpointManager) -> int | None:
    """Step with the smallest validation error among those kept."""
    return manager.best_step()


def is_finished(folder: epath.Path) -> bool:
    """Whether a stage has its final variables."""
    return (folder / "final").exists()


def save_final(folder: epath.Path, variables: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    """Writes the chosen variables of a stage with all that is needed to use them.

    Args:
      folder: Folder of the stage.
      variables: Nested dicts of arrays.
      facts: Plain JSON: method, stage, config, preprocessing, readout, how it was trained.
    """
    facts = {**facts, CHECKSUM: _checksum(facts)}
    items = ocp.args.Composite(
        variables=ocp.args.PyTreeSave(dict(variables)), facts=ocp.args.JsonSave(dict(facts))
    )
    with _final_checkpointer() as checkpointer:
        checkpointer.save(absolute(folder) / "final", args=items, force=True)


def load_final(folder: epath.Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Variables (NumPy arrays) and facts of a finished stage.

    Raises:
      CheckpointError: The stage is not finished or its files are damaged.
    """
    if not is_finished(folder):
        raise CheckpointError(f"{folder}: no finished stage here; train it to the end first")
    try:
        with _final_checkpointer() as checkpointer:
            path = absolute(folder) / "final"
            shapes = checkpointer.metadata(path).item_metadata["variables"]
            # Restored as NumPy arrays: the devices may not exist on this machine.
            kinds = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), shapes.tree)
            variables = ocp.args.PyTreeRestore(restore_args=kinds)
            items = ocp.args.Composite(variables=variables, facts=ocp.args.JsonRestore())
            found = checkpointer.restore(path, args=items)
    except Exception as error:
        line = _first_line(error)
        raise CheckpointError(f"{folder}: the checkpoint cannot be read ({line})") from error
    return dict(found.variables), _checked(folder, found.facts)


def load_stage(
    workdir: str | os.PathLike[str], stage: str | None = None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Variables and facts of a finished stage of a run.

    Args:
      workdir: Folder of the run.
      stage: Stage of the run's method; the last finished one if not given.

    Raises:
      CheckpointError: No such stage is finished, or its files are damaged.
    """
    folder, names = epath.Path(workdir) / "checkpoints", []
    if folder.exists():
        names = [p.name for p in folder.iterdir() if is_finished(p)]
    if not names:
        raise CheckpointError(
            f"{workdir}: no finished training here; give the workdir of a run that ended"
        )
    first = load_final(folder / names[0])
    order = [name for name in first[1]["stages"] if name in names]
    chosen = stage or order[-1]
    if chosen not in order:
        raise CheckpointError(f"{workdir}: no finished stage {chosen!r}; finished: {order}")
    return first if chosen == names[0] else load_final(folder / chosen)


def load_facts(folder: epath.Path) -> dict[str, Any]:
    """Facts of a finished stage without its variables."""
    with _final_checkpointer() as checkpointer:
        args = ocp.args.Composite(facts=ocp.args.JsonRestore())
        return _checked(folder, checkpointer.restore(absolute(folder) / "final", args=args).facts)


def _checksum(facts: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


def _checked(folder: epath.Path, facts: Mapping[str, Any]) -> dict[str, Any]:
    """The facts without their checksum, which checkpoints of version 0.1 lack.

    Raises:
      CheckpointError: They are not those that were written.
    """
    known = {name: value for name, value in facts.items() if name != CHECKSUM}
    if facts.get(CHECKSUM, _checksum(known)) != _checksum(known):
        raise CheckpointError(
            f"{folder}: the metadata of this checkpoint were changed after training, by hand or by "
            "a damaged disk; restore the folder from a copy, or train again"
        )
    return known


def _final_checkpointer() -> ocp.Checkpointer:
    handler = ocp.CompositeCheckpointHandler(
        variables=ocp.PyTreeCheckpointHandler(), facts=ocp.JsonCheckpointHandler()
    )
    return ocp.Checkpointer(handler)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
