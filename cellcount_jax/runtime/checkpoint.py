"""Checkpoints of a run, by Orbax: the only file that knows it.

A stage's folder holds `steps/` (the latest and the best state while it trains; what resumes) and
`final/` (the chosen variables with all that is needed to use them: what counts images). A stage
is finished when `final/` exists; Orbax writes to a temporary name and renames, so a killed run
leaves no half of it behind.
"""

import logging
import os
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

log = logging.getLogger(__name__)

BEST_METRIC = "validation"


class CheckpointError(ValueError):
    """A checkpoint is missing or does not fit; one line says which and what to do."""


def absolute(folder: epath.Path) -> epath.Path:
    """Orbax writes to absolute paths alone; addresses such as gs:// are left as they are."""
    text = os.fspath(folder)
    return folder if "://" in text else epath.Path(os.path.abspath(text))


def open_manager(folder: epath.Path) -> ocp.CheckpointManager:
    """Manager of a stage's running checkpoints: keeps the latest and the best one."""
    policies = ocp.checkpoint_managers.preservation_policy
    keep = policies.AnyPreservationPolicy(
        [
            policies.LatestN(n=1),
            policies.BestN(
                get_metric_fn=lambda m: m[BEST_METRIC],
                reverse=True,
                n=1,
                keep_checkpoints_without_metrics=False,
            ),
        ]
    )
    options = ocp.CheckpointManagerOptions(
        create=True,
        cleanup_tmp_directories=True,
        preservation_policy=keep,
        # Without these, best_step() would be the latest step whatever the policy keeps.
        best_fn=lambda m: m[BEST_METRIC],
        best_mode="min",
    )
    return ocp.CheckpointManager(absolute(folder) / "steps", options=options)


def save(
    manager: ocp.CheckpointManager, state: Any, facts: Mapping[str, Any], *, validation: float
) -> None:
    """Saves a training state in the background.

    Args:
      manager: of the stage.
      state: a dataclass of arrays with a field `step`.
      facts: plain JSON beside it (seconds of training so far).
      validation: the error by which the best checkpoint is chosen; smaller is better.
    """
    manager.save(
        int(state.step),
        args=ocp.args.Composite(
            state=ocp.args.StandardSave(state), facts=ocp.args.JsonSave(dict(facts))
        ),
        metrics={BEST_METRIC: float(validation)},
        force=True,
    )


def restore_latest(manager: ocp.CheckpointManager, like: Any) -> tuple[Any, dict] | None:
    """The newest state that can be read, in the shape and on the devices of `like`; else None.

    A step whose files were damaged after it was written is passed over with a warning.
    """
    for step in sorted(manager.all_steps(), reverse=True):
        try:
            return restore(manager, step, like)
        except Exception as error:  # Orbax raises many kinds for damaged files.
            message = str(error).splitlines()[0] if str(error) else type(error).__name__
            log.warning("%s: step %d cannot be read (%s)", manager.directory, step, message)
            manager.delete(step)
    return None


def restore(manager: ocp.CheckpointManager, step: int, like: Any) -> tuple[Any, dict]:
    """State and facts of one step, in the shape and on the devices of `like`."""
    abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
    found = manager.restore(
        step,
        args=ocp.args.Composite(
            state=ocp.args.StandardRestore(abstract), facts=ocp.args.JsonRestore()
        ),
    )
    return found.state, dict(found.facts)


def best_step(manager: ocp.CheckpointManager) -> int | None:
    """Step with the smallest validation error among those kept."""
    return manager.best_step()


def is_finished(folder: epath.Path) -> bool:
    """Whether a stage has its final variables."""
    return (folder / "final").exists()


def save_final(folder: epath.Path, variables: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    """Writes the chosen variables of a stage with the facts that make them usable alone.

    Args:
      folder: of the stage.
      variables: nested dicts of arrays.
      facts: plain JSON: method, stage, config, preprocessing, readout, how it was trained.
    """
    items = ocp.args.Composite(
        variables=ocp.args.PyTreeSave(dict(variables)), facts=ocp.args.JsonSave(dict(facts))
    )
    with _final_checkpointer() as checkpointer:
        checkpointer.save(absolute(folder) / "final", args=items, force=True)


def load_final(folder: epath.Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Variables (NumPy arrays) and facts of a finished stage.

    Raises:
      CheckpointError: the stage is not finished or its files are damaged.
    """
    if not is_finished(folder):
        raise CheckpointError(f"{folder}: no finished stage here; train it to the end first")
    try:
        with _final_checkpointer() as checkpointer:
            shapes = checkpointer.metadata(absolute(folder) / "final").item_metadata["variables"]
            # Read as NumPy arrays: they go to whatever devices there are now, not to those that
            # wrote them.
            kinds = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), shapes.tree)
            found = checkpointer.restore(
                absolute(folder) / "final",
                args=ocp.args.Composite(
                    variables=ocp.args.PyTreeRestore(restore_args=kinds),
                    facts=ocp.args.JsonRestore(),
                ),
            )
    except Exception as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{folder}: the checkpoint cannot be read ({first})") from error
    return dict(found.variables), dict(found.facts)


def load_stage(
    workdir: str | os.PathLike[str], stage: str | None = None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Variables and facts of a finished stage of a run.

    Args:
      workdir: of the run.
      stage: of the run's method; the last finished one if not given.

    Raises:
      CheckpointError: no such stage is finished, or its files are damaged.
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
        return dict(checkpointer.restore(absolute(folder) / "final", args=args).facts)


def _final_checkpointer() -> ocp.Checkpointer:
    handler = ocp.CompositeCheckpointHandler(
        variables=ocp.PyTreeCheckpointHandler(), facts=ocp.JsonCheckpointHandler()
    )
    return ocp.Checkpointer(handler)
