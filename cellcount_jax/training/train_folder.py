"""Trains the default counter on a lab's folder, with settings inferred from its images."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from etils import epath
from ml_collections import ConfigDict

from cellcount_jax import defaults
from cellcount_jax.data import infer_settings
from cellcount_jax.data.augment import Light
from cellcount_jax.data.resampling import Resampling
from cellcount_jax.datasets import folder, load
from cellcount_jax.inference.counter import Counter
from cellcount_jax.training import run

log = logging.getLogger(__name__)

MIN_VALIDATION = 10
"""With fewer validation images the best checkpoint by their error is one of luck."""

N_VALIDATIONS = 16
"""During training, for the curve and to choose a checkpoint by."""

GATE = 0.15
"""Part of one cell's peak that density must reach nearby to count."""

VOLUME_CHANNELS, VOLUME_BATCH, VOLUME_STEPS = (8, 16, 32), 4, 500
"""Of the network and its training on volumes."""

LIGHT = Light(contrast=0.3, offset=0.2, gamma=0.3, noise=0.2, blur=0.5, colour=0.4)
"""What differs between fields of one lab: exposure, camera, focus, stain."""


def train_folder(
    path: Path,
    workdir: epath.Path,
    *,
    channels: Sequence[int | str] | None = None,
    steps: int | None = None,
    seed: int = 0,
    start_from: str | None = None,
) -> dict[str, Any]:
    """Trains on a folder and evaluates on its test split, or on validation if it has none.

    Args:
      path: laid out as `datasets.folder` says.
      workdir: of the run; resumed if it already holds this run.
      channels: of the images, by index or name; all if not given.
      steps: of training; the default if not given.
      seed: of split and training.
      start_from: model whose weights training begins with, where the networks are alike.

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
    config = config_for(found, n_train=len(source.splits["train"]), seed=seed, steps=steps)
    n_validation = len(source.splits.get("validation", ()))
    if n_validation < MIN_VALIDATION:
        log.info("too few validation images (%d) to choose a checkpoint by: last", n_validation)
        config.stages.density.select = "last"
    config.data.name, config.data.protocol = source.name, source.protocol
    resampling = Resampling(factor=found.scale)
    start = None if start_from is None else Counter.load(start_from)
    resampled = load.resampled(source, resampling)
    return run.train_source(config, workdir, resampled, is_lab=True, start=start)


def config_for(
    found: infer_settings.InferredSettings,
    *,
    n_train: int,
    seed: int = 0,
    steps: int | None = None,
) -> ConfigDict:
    """The default counter's config with inferred settings."""
    config = defaults.density()
    config.seed = seed
    config.radius = found.radius
    config.model.sigma = found.sigma
    plan = config.stages.density
    plan.crop = found.crop
    plan.steps = steps or plan.steps
    if len(found.crop) == 3:
        config.model.ndim, config.model.channels = 3, VOLUME_CHANNELS
        plan.batch_size.labelled, plan.steps = VOLUME_BATCH, steps or VOLUME_STEPS
    plan.optimizer.warmup_steps = min(plan.optimizer.warmup_steps, plan.steps // 2)
    plan.update(LIGHT._asdict())
    plan.eval_every = max(1, plan.steps * plan.batch_size.labelled // (N_VALIDATIONS * n_train))
    config.model.gate = GATE
    # Percentiles of each image: what a camera adds or multiplies falls out.
    config.preprocessing.update(
        {"channels": found.channels, "normalise": "percentile", "mean": (0.5,), "std": (0.25,)}
    )
    return config


def verdict(results: Mapping[str, Any]) -> list[str]:
    """What a lab should know of the errors of its counter, in a line or two.

    Args:
      results: content of `results.json`.
    """
    mae, split, n = results.get("mae"), results["split"], results["n_images"]
    if mae is None:
        return []
    points = "" if results.get("f1") is None else f", F1 {results['f1']:.3f}"
    lines = [f"{split} split, {n} images: MAE {mae:.1f} cells per image{points}"]
    if split == "train":
        lines.append("these images were trained on: expect larger errors on new ones")
    elif n < MIN_VALIDATION:
        lines.append(f"{n} images say little: expect larger errors on new ones")
    mean = results.get("baseline_mean_mae")
    if mean is not None and mae >= mean:
        lines.append(
            f"no better than the mean count of the training images (MAE {mean:.1f}): do not use it "
            "yet; check the dots, or annotate more images"
        )
    return lines
