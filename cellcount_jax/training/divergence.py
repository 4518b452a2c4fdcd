"""Stops diverging training with an error that names the learning rate, or logs a warning."""

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

log = logging.getLogger(__name__)

MAX_RISE = 100.0
"""A warning is logged if the loss ends this many times higher than it began."""


class TrainingError(RuntimeError):
    """Training cannot continue; one line says why and what to do."""


def finite_metrics(
    stage: str, at: int, metrics: Mapping[str, np.ndarray], manager: ocp.CheckpointManager
) -> list[dict[str, float]]:
    """The metrics of each step of a call that ended at step `at`.

    Raises:
      TrainingError: A loss is not finite.
    """
    each = {name: np.atleast_1d(value).tolist() for name, value in metrics.items()}
    values = [dict(zip(each, row, strict=True)) for row in zip(*each.values(), strict=True)]
    wrong = [v["loss"] for v in values if not math.isfinite(v["loss"])]
    if wrong:
        raise _error(stage, at, f"the loss became {wrong[0]}", manager)
    return values


def check_weights(stage: str, at: int, weights: Any, manager: ocp.CheckpointManager) -> None:
    """Checks the weights, because the loss of a step is computed before its update.

    Raises:
      TrainingError: A weight is not finite.
    """
    if not bool(_all_finite(weights)):
        raise _error(stage, at, "the weights became infinite", manager)


@jax.jit
def _all_finite(tree: Any) -> jax.Array:
    return jnp.array([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]).all()


def warn_of_rise(stage: str, losses: Sequence[float]) -> None:
    """Logs a warning if the median of the last tenth of losses is far above that of the first."""
    if len(losses) < 2:
        return
    n = max(1, len(losses) // 10)
    first, last = (float(np.median(part)) for part in (losses[:n], losses[-n:]))
    if last > MAX_RISE * abs(first):
        log.warning(
            "stage %s: the loss rose from %.3g to %.3g: training diverged, do not use this model. "
            "%s",
            *(stage, first, last, _remedy(stage)),
        )


def _error(stage: str, at: int, what: str, manager: ocp.CheckpointManager) -> TrainingError:
    manager.wait_until_finished()
    last = manager.latest_step()
    kept = "nothing was saved yet" if last is None else f"step {last} is kept"
    return TrainingError(f"stage {stage}: {what} by step {at}; {kept}. {_remedy(stage)}")


def _remedy(stage: str) -> str:
    return f"Lower stages.{stage}.optimizer.learning_rate and start in a new workdir"
