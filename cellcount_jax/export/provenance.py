"""Training provenance (data, metrics, versions) stored with an exported model."""

import dataclasses
import ntpath
import posixpath
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cellcount_jax.inference import bundled
from cellcount_jax.inference.counter import Counter
from cellcount_jax.inference.model_file import MODEL_SUFFIX
from cellcount_jax.runtime.environment import package_versions

PACKAGES = ("jax", "flax", "numpy")

_DATA_KEYS = (
    *("dataset", "dataset_is_fallback", "protocol", "split_hash", "n_train", "n_validation"),
    *("seconds_train", "device", "versions", "git"),
)
_METRIC_KEYS = (
    *("split", "n_images", "mae", "rmse", "bias", "mape"),
    *("f1", "precision", "recall", "radius"),
)


def load_with_training(path: str | Path, *, stage: str | None = None) -> Counter:
    """A counter whose facts hold its provenance under `training`, as those of a model file do.

    Raises:
      ValueError: See `Counter.load`.
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
    """Provenance of a model, as far as the folder of its run holds it.

    Args:
      workdir: Folder of a finished run; `results.json` and `metrics.jsonl` are read if they exist.
      facts: Metadata of the stage's checkpoint.
    """
    from etils import epath  # only writing needs these

    from cellcount_jax.runtime import run_files

    folder, config = epath.Path(workdir), facts["config"]
    results = folder / "results.json"
    found = run_files.read_json(results) if results.exists() else {}
    # `results.json` is about the last stage.
    keys = (*_DATA_KEYS, *_METRIC_KEYS) if facts["stage"] == facts["stages"][-1] else _DATA_KEYS
    chosen = {"stage": facts["stage"], "split": "validation", "step": facts.get("step")}
    lines = [m for m in run_files.read_metrics(folder) if chosen.items() <= m.items()]
    return {
        "pixel_size": facts["resampling"]["pixel_size"],
        "radius": config["radius"],
        "seed": config["seed"],
        "n_train": len(facts.get("train_names", ())) or None,
        "validation": {k: v for k, v in lines[-1].items() if k not in chosen} if lines else None,
        **{key: found[key] for key in keys if found.get(key) is not None},
        "exported_with": package_versions(PACKAGES),
    }


def without_paths(facts: Any) -> Any:
    """The same JSON with absolute paths cut to their last part: folders of a lab are private."""
    if isinstance(facts, Mapping):
        return {key: without_paths(value) for key, value in facts.items()}
    if isinstance(facts, list | tuple):
        return [without_paths(value) for value in facts]
    if isinstance(facts, str) and (posixpath.isabs(facts) or ntpath.isabs(facts)):
        return ntpath.basename(facts.rstrip("/\\"))
    return facts
