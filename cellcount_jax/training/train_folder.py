"""Trains the default counter on a lab's folder, with settings inferred from its images."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from etils import epath
from ml_collections import ConfigDict

from cellcount_jax import defaults
from cellcount_jax.data import infer_settings
from cellcount_jax.data.resampling import Resampling
from cellcount_jax.datasets import folder, load
from cellcount_jax.training import run

log = logging.getLogger(__name__)


def train_folder(
    path: Path,
    workdir: epath.Path,
    *,
    channels: Sequence[int | str] | None = None,
    steps: int | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Trains on a folder and evaluates on its test split, or on validation if it has none.

    Args:
      path: laid out as `datasets.folder` says.
      workdir: of the run; resumed if it already holds this run.
      channels: of the images, by index or name; all if not given.
      steps: of training; the default if not given.
      seed: of split and training.

    Returns:
      The content of `results.json`.

    Raises:
      ValueError: nothing to train on, or a file that cannot be read; one line names it.
    """
    source = folder.load_folder(path, seed=seed, channels=channels)
    log.info(source.description)
    found = infer_settings.infer_settings(source.splits["train"])
    for line in found.lines():
        log.info("inferred: %s", line)
    config = config_for(found, seed=seed, steps=steps)
    config.data.name, config.data.protocol = str(path), source.protocol
    resampling = Resampling(factor=found.scale)
    return run.train_source(config, workdir, load.resampled(source, resampling))


def config_for(
    found: infer_settings.InferredSettings, *, seed: int = 0, steps: int | None = None
) -> ConfigDict:
    """The default counter's config with inferred settings."""
    config = defaults.density()
    config.seed = seed
    config.radius = found.radius
    config.model.sigma = found.sigma
    plan = config.stages.density
    plan.crop = found.crop
    plan.steps = steps or plan.steps
    config.preprocessing.update(
        {"channels": found.channels, "normalise": found.normalise, "mean": (0.5,), "std": (0.25,)}
    )
    return config
