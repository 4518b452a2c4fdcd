"""Trains a counter on a lab's folder, with settings inferred from its images."""

import dataclasses
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from etils import epath

from cellcount_jax.data import infer_settings
from cellcount_jax.data.resampling import Resampling
from cellcount_jax.datasets import folder, load
from cellcount_jax.evaluation import metrics
from cellcount_jax.inference.counter import Counter
from cellcount_jax.reporting.verdict import MIN_IMAGES
from cellcount_jax.runtime import run_files
from cellcount_jax.training import divergence, run
from cellcount_jax.training.lab import consistency, density, prototypes

log = logging.getLogger(__name__)


def train_folder(
    path: Path,
    workdir: epath.Path,
    *,
    voxel_size: Sequence[float] | None = None,
    steps: int | None = None,
    seed: int = 0,
    start_from: str | None = None,
    folds: int = 0,
    unlabelled: Sequence[Path] | None = None,
    explain: bool = False,
    **chosen: Any,
) -> dict[str, Any]:
    """Trains on a folder and evaluates on its test split, or on validation if it has none.

    Args:
      path: Folder laid out as described in `datasets.folder`.
      workdir: Folder of the run; resumed if it already holds this run.
      voxel_size: Micrometres per pixel, (z, y, x), in place of the files' metadata.
      steps: Number of training steps; None: the default.
      seed: Seed of split and training.
      start_from: Model whose weights training starts from, if the networks agree.
      folds: Number of further counters for cross-validation, each trained without a part of the
        labelled images outside the test split and evaluated on that part
        (`cross_validation.json`). 0: none.
      unlabelled: Images without dots, or folders of them, used with those of `path` in training by
        focal consistency. None: only images with dots are used.
      explain: Whether to train a counter of prototypes, whose counts `cellcount explain` explains.
      **chosen: `channels`, `axes`, `scene` and `time` of `read_image`.

    Returns:
      The content of `results.json`, with `cross_validation` if there are folds.

    Raises:
      ValueError: There is nothing to train on, or a file cannot be read; the message names it.
    """
    if steps is not None and steps < 1:
        raise ValueError(f"--steps {steps}: must be at least 1")
    if explain and unlabelled is not None:
        raise ValueError("--explain learns from dots alone; leave --unlabelled out")
    source = folder.load_folder(path, seed=seed, voxel_size=voxel_size, **chosen)
    parts = list(cross_validation_parts(source, folds=folds))
    log.info(source.description)
    if unlabelled is not None:
        more = folder.read_unlabelled(unlabelled, voxel_size=voxel_size, **chosen)
        source = folder.with_unlabelled(source, more)
    start = None if start_from is None else Counter.load(start_from)
    options: dict[str, Any] = {"steps": steps, "seed": seed, "start": start}
    options["kind"] = "consistency" if unlabelled is not None else "density"
    if explain:
        options["kind"] = "prototypes"
    results = _train(source, workdir, **options)
    for fold, part in enumerate(parts):
        log.info("cross-validation: %s", part.protocol)
        _train(part, workdir / "folds" / str(fold), **options)
    if folds:
        results["cross_validation"] = pooled(workdir / "folds", folds)
        run_files.write_json(workdir / "cross_validation.json", results["cross_validation"])
    return results


def _train(
    source: load.SplitDataset,
    workdir: epath.Path,
    *,
    steps: int | None,
    seed: int,
    start: Counter | None,
    kind: str,
) -> dict[str, Any]:
    """One run with settings inferred from its training images."""
    found = infer_settings.infer_settings(source.splits["train"])
    for line in found.lines():
        log.info("inferred: %s", line)
    n_train = len(source.splits["train"])
    if marked := run.n_not_cells(source.splits["train"]):
        if kind == "density":
            log.info("%d places marked as not a cell: the loss weighs more around them", marked)
        else:
            log.warning(
                "%d places marked as not a cell are not used: only training without --unlabelled "
                "and --explain uses them",
                marked,
            )
    if kind == "consistency":
        config = consistency.config_for(found, seed=seed, steps=steps)
    elif kind == "prototypes":
        config = prototypes.config_for(found, n_train=n_train, seed=seed, steps=steps)
    else:
        config = density.config_for(found, n_train=n_train, seed=seed, steps=steps)
    n_validation = len(source.splits.get("validation", ()))
    if n_validation < MIN_IMAGES:  # selection on so few images would be chance
        log.info(
            "%d validation images are too few to choose a checkpoint by: the last is taken",
            n_validation,
        )
        for plan in config.stages.values():
            plan.select = "last"
    config.data.name, config.data.protocol = source.name, source.protocol
    resampling = Resampling(factor=found.scale)
    resampled = load.resampled(source, resampling)
    advice = divergence.LAB_ADVICE
    return run.train_source(config, workdir, resampled, is_lab=True, start=start, advice=advice)


def cross_validation_parts(source: load.SplitDataset, *, folds: int) -> Iterator[load.SplitDataset]:
    """The data of each fold: training and validation images divided anew into train and test.

    Raises:
      ValueError: There is one fold, or there are more folds than images.
    """
    samples = [*source.splits["train"], *source.splits.get("validation", ())]
    if folds and not 2 <= folds <= len(samples):
        raise ValueError(
            f"--folds {folds}: {len(samples)} annotated images can be divided into 2 to "
            f"{len(samples)} parts"
        )
    order = np.random.default_rng(source.seed).permutation(len(samples))
    for fold in range(folds):
        counted = set(order[fold::folds].tolist())
        splits = {
            "train": [s for i, s in enumerate(samples) if i not in counted],
            "test": [s for i, s in enumerate(samples) if i in counted],
        }
        if "unlabelled" in source.splits:
            splits["unlabelled"] = source.splits["unlabelled"]
        protocol = f"{source.protocol}, fold {fold + 1} of {folds}"
        yield dataclasses.replace(source, splits=splits, protocol=protocol)


def pooled(path: epath.Path, folds: int) -> dict[str, Any]:
    """Errors over the counted images of all folds."""
    every = [run_files.read_json(path / str(i) / "results.json") for i in range(folds)]
    weights = [r["n_images"] for r in every]
    means = {k: float(np.average([r[k] for r in every], weights=weights)) for k in ("mae", "bias")}
    found = {"folds": folds, "n_images": sum(weights), **means}
    if every[0].get("tp") is None:  # a method without points
        return found
    tp, fp, fn = (sum(r[k] for r in every) for k in ("tp", "fp", "fn"))
    return {**found, "f1": metrics.precision_recall_f1(tp, fp, fn)["f1"]}
