"""A run from config to report: data, training, one evaluation of the test split, files."""

import csv
import dataclasses
import io
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from etils import epath
from ml_collections import ConfigDict

from cellcount_jax.data.preprocess import Preprocessing, with_measured_range
from cellcount_jax.data.resampling import Resampling, common_pixel_size
from cellcount_jax.data.sample import Sample
from cellcount_jax.datasets import folder, load
from cellcount_jax.datasets.normalise_diameter import normalise_cell_diameter
from cellcount_jax.datasets.random_scale import at_random_scales
from cellcount_jax.evaluation.baselines import baseline_errors
from cellcount_jax.evaluation.evaluate import Evaluation, decoder_errors, evaluate
from cellcount_jax.explanation import faithfulness
from cellcount_jax.inference.counter import Counter
from cellcount_jax.methods import build_stages
from cellcount_jax.reporting import run_report
from cellcount_jax.runtime import checkpoint, environment, run_files, sharding
from cellcount_jax.training import divergence
from cellcount_jax.training import workdir as workdirs
from cellcount_jax.training.trainer import Run, fit

log = logging.getLogger(__name__)

EVALUATION_ORDER = ("test", "validation", "train")
"""Splits in order of preference: the first with images is evaluated."""

VERSIONED_PACKAGES = ("jax", "flax", "optax", "orbax-checkpoint", "numpy")


def train(config: ConfigDict, workdir: epath.Path, *, download: bool = False) -> dict[str, Any]:
    """Trains what is not trained yet, evaluates once, and writes results and report.

    Args:
      config: Config of the run, see `configs/`.
      workdir: Folder of the run, created if missing; resumed if it already holds this run.
      download: Whether to download the data if they are missing and their publisher's address is
        known.

    Returns:
      The content of `results.json`.

    Raises:
      WorkdirError: The folder holds a run of another config.
    """
    if not config.data.folder:  # of a lab's folder, images and dots may have changed
        workdirs.check_config(config, workdir)
        if (finished := workdirs.results_of(workdir)) is not None:
            return finished
    source = load_source(config, download=download)
    return train_source(config, workdir, source, is_lab=bool(config.data.folder))


def train_source(
    config: ConfigDict,
    workdir: epath.Path,
    source: load.SplitDataset,
    *,
    is_lab: bool = False,
    start: Counter | None = None,
    advice: str = divergence.ADVICE,
) -> dict[str, Any]:
    """Like `train`, with data that are already loaded.

    Args:
      config: See `train`.
      workdir: See `train`.
      source: The data.
      is_lab: Whether they come from a lab's folder, which may change: a run resumes only if they
        are unchanged.
      start: Trained counter whose weights training starts from.
      advice: What to do if training diverges; `{stage}` is the name of the stage.

    Raises:
      WorkdirError: See `train`; or images or dots have changed since the run began.
      LockedError: Another process trains in the folder.
    """
    with workdirs.locked(workdir):
        workdirs.check_data(source, workdir)
        workdirs.check_config(config, workdir)
        if (finished := workdirs.results_of(workdir)) is not None:
            return finished
        split_to_evaluate(config, source)  # raises before hours of training, not after
        log.info("%s; on %s", source.description, sharding.describe_device())
        workdirs.claim(config, source, workdir, is_lab=is_lab)
        try:
            source = _with_pixel_size(source)
            run = Run(
                config=config,
                workdir=workdir,
                source=source,
                preprocessing=_preprocessing(config, source),
                stages=build_stages(config),
                mesh=sharding.data_mesh(),
                start=start,
                advice=advice,
            )
            counter = fit(run)
        except BaseException:
            workdirs.release(workdir)
            raise
        return evaluate_run(config, workdir, source, counter)


def _preprocessing(config: ConfigDict, source: load.SplitDataset) -> Preprocessing:
    """Preprocessing of the config; a mean or std of None is measured on the training images."""
    fields = config.preprocessing.to_dict()
    given = {name: value for name, value in fields.items() if value is not None}
    preprocessing = Preprocessing.from_dict(given)
    if len(given) == len(fields):
        return preprocessing
    measured = with_measured_range(preprocessing, (s.image for s in source.splits["train"]))
    log.info("training images: mean %s, standard deviation %s", measured.mean, measured.std)
    return measured


def _with_pixel_size(source: load.SplitDataset) -> load.SplitDataset:
    """The same data; images will be resampled to the pixel size that the training images share."""
    pixel_size = source.resampling.pixel_size or common_pixel_size(source.splits["train"])
    if pixel_size is not None:
        log.info("pixel size %s um; images of other pixel sizes are resized to it", pixel_size)
    resampling = dataclasses.replace(source.resampling, pixel_size=pixel_size)
    return dataclasses.replace(source, resampling=resampling)


def load_source(config: ConfigDict, *, download: bool = False) -> load.SplitDataset:
    """The dataset of a config, split by its protocol and seed; or the lab's folder it names.

    Raises:
      ValueError: The data are missing or wrong; one line says what to do.
    """
    data = config.data
    if data.name is None and not data.folder:
        raise ValueError("give --config.data.folder=FOLDER, with images and dots in it")
    if data.folder:
        return folder.load_folder(Path(data.folder), seed=config.seed)
    source = load.load_dataset(
        data.name,
        protocol=data.protocol,
        seed=config.seed,
        download=download,
        n_train=data.n_train or None,
    )
    if data.normalise_diameter:
        options = data.normalise_diameter.to_dict()
        return normalise_cell_diameter(source, seed=config.seed, **options)
    if data.random_scale:
        return at_random_scales(source, seed=config.seed, **data.random_scale.to_dict())
    patches = data.patches.to_dict() if data.patches else None
    return load.resampled(source, Resampling(patches=patches, pixel_size=data.voxel_size))


def evaluate_run(
    config: ConfigDict, workdir: epath.Path, source: load.SplitDataset, counter: Counter
) -> dict[str, Any]:
    """Evaluates a trained counter on the split of `split_to_evaluate` and writes the results."""
    split = split_to_evaluate(config, source)
    test = source.splits[split]
    if split != "test":
        log.warning("errors on the %s split are smaller than on new images", split)
    next(iter(counter.count_all([test[0].image])))  # compiles outside the measured time
    evaluation = evaluate(counter, test, radius=config.radius)
    explained = {}
    if counter.stage.explain is not None:
        explained = faithfulness.measure(counter, evaluation, seed=config.seed)
    results = {
        "method": config.method,
        **describe_source(source),
        "split": split,
        "seed": config.seed,
        **evaluation.summary,
        **decoder_errors(evaluation.counts, test, counter.stage.readout, radius=config.radius),
        **explained,
        **baseline_errors(source.splits["train"], evaluation),
        "decoder": counter.stage.readout.decoder,
        "threshold": counter.stage.readout.threshold,
        "count_scale": counter.stage.readout.count_scale,
        "stages": [stage.name for stage in build_stages(config)],
        "images_per_second": len(test) / evaluation.seconds,
        **(facts := _training_facts(workdir)),
        "remarks": [*source.remarks, *facts["remarks"]],
        "device": sharding.describe_device(),
        "versions": environment.package_versions(VERSIONED_PACKAGES),
        "git": environment.git_revision(),
    }
    write_results(workdir, results, evaluation)
    return results


def split_to_evaluate(config: ConfigDict, source: load.SplitDataset) -> str:
    """The first split of `EVALUATION_ORDER`, from `config.evaluate_on` on, that has images.

    Raises:
      ValueError: `config.evaluate_on` is not such a split.
    """
    asked = config.evaluate_on
    if asked not in EVALUATION_ORDER:
        raise ValueError(
            f"config.evaluate_on is {asked!r}; it must be one of {', '.join(EVALUATION_ORDER)}"
        )
    order = EVALUATION_ORDER[EVALUATION_ORDER.index(asked) :]
    return next(split for split in order if source.splits.get(split))


def describe_source(source: load.SplitDataset) -> dict[str, Any]:
    """The fields of the results that describe the data."""
    return {
        "dataset": source.name,
        "dataset_is_fallback": source.is_fallback,
        "protocol": source.protocol,
        "split_hash": source.split_hash,
        "n_train": len(source.splits["train"]),
        "n_not_cells": n_not_cells(source.splits["train"]),
        "n_validation": len(source.splits.get("validation", [])),
        "left_out": [{"file": name, "why": line} for name, line in source.left_out.items()],
    }


def n_not_cells(samples: Sequence[Sample]) -> int:
    """Number of places that a person marked as no cell."""
    return sum(len(s.not_cells) for s in samples if s.not_cells is not None)


def write_results(workdir: epath.Path, results: Mapping[str, Any], evaluation: Evaluation) -> None:
    """Writes the results last: a run counts as finished when it has `results.json`."""
    run_files.write_text(workdir / "predictions.csv", predictions_table(evaluation))
    metrics = run_files.read_metrics(workdir)
    run_files.write_text(
        workdir / "report.html", run_report.run_report(results, evaluation, metrics)
    )
    run_files.write_json(workdir / "results.json", results)


def predictions_table(evaluation: Evaluation) -> str:
    """One line per evaluated image (or patch) with its error, largest error first."""
    text = io.StringIO(newline="")
    table = csv.writer(text, lineterminator="\n")
    table.writerow(("image", "true", "predicted", "error", "n_points", "tp", "fp", "fn"))
    for each in sorted(evaluation.images, key=lambda e: -abs((e.predicted or 0) - (e.true or 0))):
        predicted, true = each.predicted or 0.0, each.true or 0
        n_points = "" if each.points is None else len(each.points)
        matches = each.matches.get(each.radius, ("", "", ""))
        error = f"{predicted - true:.3f}"
        table.writerow((each.name, true, f"{predicted:.3f}", error, n_points, *matches))
    return text.getvalue()


def _training_facts(workdir: epath.Path) -> dict[str, Any]:
    """Seconds, steps and remarks of every stage, from its checkpoint."""
    facts = {}
    for stage in sorted((workdir / "checkpoints").iterdir()):
        facts[stage.name] = checkpoint.load_facts(stage)
    return {
        "seconds_train": sum(f["seconds"] for f in facts.values()),
        "chosen_step": {name: f["step"] for name, f in facts.items()},
        "remarks": [line for f in facts.values() for line in f.get("remarks", ())],
    }
