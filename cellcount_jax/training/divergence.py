"""Stops diverging training with an error that says what to do, or adds a remark to results."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

MAX_RISE = 100.0
"""A warning is logged if the loss ends this many times higher than it began."""


ADVICE = "Lower stages.{stage}.optimizer.learning_rate and start in a new workdir"
"""Advice to users who train from a config."""

LAB_ADVICE = (
    "Look through the dots (cellcount dots check FOLDER), then train again into a new folder with "
    "another --seed"
)
"""Advice to users of `cellcount train`, which has no option for the learning rate."""


class TrainingError(RuntimeError):
    """Training cannot continue; one line says why and what to do."""


def finite_metrics(
    stage: str,
    at: int,
    metrics: Mapping[str, np.ndarray],
    manager: ocp.CheckpointManager,
    advice: str = ADVICE,
) -> list[dict[str, float]]:
    """The metrics of each step of a call that ended at step `at`.

    Raises:
      TrainingError: A loss is not finite.
    """
    each = {name: np.atleast_1d(value).tolist() for name, value in metrics.items()}
    values = [dict(zip(each, row, strict=True)) for row in zip(*each.values(), strict=True)]
    wrong = [v["loss"] for v in values if not math.isfinite(v["loss"])]
    if wrong:
        raise _error(stage, at, f"the loss became {wrong[0]}", manager, advice)
    return values


def check_weights(
    stage: str, at: int, weights: Any, manager: ocp.CheckpointManager, advice: str = ADVICE
) -> None:
    """Checks the weights, because the loss of a step is computed before its update.

    Raises:
      TrainingError: A weight is not finite.
    """
    if not bool(_all_finite(weights)):
        raise _error(stage, at, "the weights became infinite", manager, advice)


@jax.jit
def _all_finite(tree: Any) -> jax.Array:
    return jnp.array([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]).all()


def rise(stage: str, losses: Sequence[float], advice: str = ADVICE) -> list[str]:
    """A line if the median of the last tenth of losses is far above that of the first."""
    if len(losses) < 2:
        return []
    n = max(1, len(losses) // 10)
    first, last = (float(np.median(part)) for part in (losses[:n], losses[-n:]))
    if last <= MAX_RISE * abs(first):
        return []
    return [
        f"stage {stage}: the loss rose from {first:.3g} to {last:.3g}: training diverged, do not "
        f"use this model. {advice.format(stage=stage)}"
    ]


def logged_losses(metrics: Iterable[Mapping[str, Any]], stage: str) -> list[float]:
    """A loss for each step that a resumed run took before, from the means in its log.

    Args:
      metrics: Lines of `metrics.jsonl`, in the order of their steps.
      stage: Name of the stage.
    """
    losses: list[float] = []
    for line in metrics:
        if line["stage"] == stage and line.get("split") == "train" and "loss" in line:
            losses += [line["loss"]] * (line["step"] - len(losses))
    return losses


def _error(
    stage: str, at: int, what: str, manager: ocp.CheckpointManager, advice: str
) -> TrainingError:
    manager.wait_until_finished()
    last = manager.latest_step()
    kept = "nothing was saved yet" if last is None else f"step {last} is kept"
    text = advice.format(stage=stage)
    return TrainingError(f"stage {stage}: {what} by step {at}; {kept}. {text}")
