"""How a counter came about: what the folder of its run tells, for those who get the model alone."""

import dataclasses
import importlib.metadata
import json
import ntpath
import posixpath
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cellcount_jax.inference import bundled
from cellcount_jax.inference.counter import Counter
from cellcount_jax.inference.model_file import MODEL_SUFFIX

PACKAGES = ("jax", "flax", "numpy")

_DATA = (
    *("dataset", "dataset_is_fallback", "protocol", "split_hash", "n_train", "n_validation"),
    *("seconds_train", "device", "versions", "git"),
)
_ERRORS = (
    *("split", "n_images", "mae", "rmse", "bias", "mape"),
    *("f1", "precision", "recall", "radius"),
)


def load_with_training(path: str | Path, *, stage: str | None = None) -> Counter:
    """A counter whose facts say under `training` how it came about, as a model file's do.

    Raises:
      ValueError: see `Counter.load`.
    """
    path = bundled.resolve(path)
    counter = Counter.load(path, stage=stage)
    if str(path).endswith(MODEL_SUFFIX):
        return counter
    training = training_facts(path, counter.facts)
    return dataclasses.replace(
        counter, facts={**without_paths(counter.facts), "training": training}
    )


def training_facts(workdir: str | Path, facts: Mapping[str, Any]) -> dict[str, Any]:
    """What a user should know of how a model came about, as far as the folder of the run tells.

    Args:
      workdir: of a finished run; `results.json` and `metrics.jsonl` are read where they are.
      facts: of the stage's checkpoint.
    """
    from etils import epath  # only writing needs these

    from cellcount_jax.runtime import run_files

    folder, config = epath.Path(workdir), facts["config"]
    results = folder / "results.json"
    found = json.loads(results.read_text()) if results.exists() else {}
    # The results of a run are those of its last stage.
    keys = (*_DATA, *_ERRORS) if facts["stage"] == facts["stages"][-1] else _DATA
    chosen = {"stage": facts["stage"], "split": "validation", "step": facts.get("step")}
    lines = [m for m in run_files.read_metrics(folder) if chosen.items() <= m.items()]
    return {
        "pixel_size": facts["resampling"]["pixel_size"],
        "radius": config.get("radius"),
        "seed": config.get("seed"),
        "n_train": len(facts.get("train_names", ())) or None,
        "validation": {k: v for k, v in lines[-1].items() if k not in chosen} if lines else None,
        **{key: found[key] for key in keys if found.get(key) is not None},
        "exported_with": {p: importlib.metadata.version(p) for p in ("cellcount_jax", *PACKAGES)},
    }


def without_paths(facts: Any) -> Any:
    """The same JSON with every absolute path cut to its last part: where a lab keeps its images
    is nobody else's business."""
    if isinstance(facts, Mapping):
        return {key: without_paths(value) for key, value in facts.items()}
    if isinstance(facts, list | tuple):
        return [without_paths(value) for value in facts]
    if isinstance(facts, str) and (posixpath.isabs(facts) or ntpath.isabs(facts)):
        return ntpath.basename(facts.rstrip("/\\"))
    return facts
