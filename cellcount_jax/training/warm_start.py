"""Starts from another run: takes over a whole stage, or weights to continue from."""

import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from etils import epath
from ml_collections import ConfigDict

from cellcount_jax.methods.base import Stage, Tree, Variables
from cellcount_jax.runtime import checkpoint

log = logging.getLogger(__name__)

COMPARED_FIELDS = ("seed", "dtype", "data", "preprocessing", "model")
"""Config fields in which the two runs must agree: the network, and which images it saw."""

IGNORED_FIELDS = ("data.on_device_mib", "model.pretrained", "model.start_at_mean")
"""Fields that may differ because they do not affect the trained weights."""


def load_stage(
    config: ConfigDict, stages: Sequence[Stage], stage: Stage, folder: epath.Path
) -> bool:
    """Copies the final variables of `config.init_from` if they are those of `stage`.

    Args:
      config: Config of this run; `init_from` is "WORKDIR:STAGE" or None; "{seed}" in it stands for
        the run's seed.
      stages: Stages of this run's method.
      stage: The stage to be trained next.
      folder: Folder of that stage in this run.

    Returns:
      Whether the stage is now finished.

    Raises:
      ValueError: `init_from` names no stage of the method, no finished training, or one with
        another network, other data or another seed.
    """
    origin = (config.init_from or "").replace("{seed}", str(config.seed))
    if not origin:
        return False
    workdir, _, name = origin.rpartition(":")
    names = [s.name for s in stages]
    if not workdir or name not in names:
        raise ValueError(
            f"config.init_from {origin!r} must be WORKDIR:STAGE with a stage of "
            f"{config.method}: {', '.join(names)}"
        )
    if name != stage.name:
        return False
    variables, facts = checkpoint.load_final(epath.Path(workdir) / "checkpoints" / name)
    _check_same(origin, json.loads(config.to_json_best_effort()), facts["config"])
    own = {"method": config.method, "stages": names, "config": config.to_dict()}
    checkpoint.save_final(folder, variables, {**facts, **own, "init_from": origin})
    log.info("stage %s: taken from %s", name, origin)
    return True


def begin_with(fresh: Variables, known: Variables, name: str) -> Variables:
    """Fresh variables with the weights of a trained model of the same network.

    Args:
      fresh: Initial variables of the stage to be trained.
      known: Variables of the trained model.
      name: Name of that model, for the log.

    Returns:
      The initial variables, with a warning, if the networks differ.
    """

    def shapes(tree: Tree) -> Tree:
        return jax.tree.map(np.shape, tree)

    parts = ("trained", "model_state")
    if any(shapes(getattr(fresh, p)) != shapes(getattr(known, p)) for p in parts):
        log.warning("%s: has another network, so training starts from random weights", name)
        return fresh
    log.info("training starts from the weights of %s", name)
    return fresh._replace(**{p: getattr(known, p) for p in parts})


def _check_same(origin: str, mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> None:
    here, there = (_flat({k: c.get(k) for k in COMPARED_FIELDS}) for c in (mine, theirs))
    differing = [
        f"{key} {there.get(key)!r} there, {here.get(key)!r} here"
        for key in sorted(here.keys() | there.keys())
        if here.get(key) != there.get(key) and key not in IGNORED_FIELDS
    ]
    if differing:
        shown = ", ".join(differing[:4]) + (" ..." if len(differing) > 4 else "")
        raise ValueError(
            f"config.init_from {origin!r} was trained with other settings ({shown}); "
            "train that stage with these, or leave init_from out"
        )


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        found |= _flat(value, f"{name}.") if isinstance(value, Mapping) else {name: value}
    return found
