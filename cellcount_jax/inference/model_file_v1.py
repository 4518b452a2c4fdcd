"""Converts metadata of schema 1 (the first `.cellcount` files) to the current schema."""

import copy
from collections.abc import Iterator, Mapping
from typing import Any

CONFIG_FIELDS = {
    "data.same_size": "normalise_diameter",
    "data.normalise_diameter.glow": "autofluorescence",
    "model.views": "test_time_augmentation",
    "model.sharpen": "unsharp_sigma",
    "model.tolerance": "f1_tolerance",
    "stages.*.average": "ema_decay",
    "stages.*.accumulate": "grad_accumulation",
}
"""Config fields by path, `*` for any name, and their current names."""

READOUT_FIELDS = {"reference": "single_cell_peak", "tolerance": "f1_tolerance"}
"""The same for the readout."""

MISSING_FIELDS: Mapping[str, Mapping[str, Any]] = {
    "density": {
        "model.count": "integral",
        "model.ndim": 2,
        "model.gate": 0.0,
        "model.count_weight": 0.0,
    },
    "consistency": {
        "model.test_time_augmentation": False,
        "model.unsharp_sigma": None,
        "model.f1_tolerance": 0.0,
        "consistency.scale": "absolute",
        "consistency.noise_amplitude": 1.0,
        "consistency.teacher": "student",
        "consistency.teacher_views": False,
        "consistency.statistics": "labelled",
    },
    "dcl": {
        "pretrain": {"enabled": False, "sigma": 4.0, "target_scale": 1.0},
        "model.calibrate": False,
        "localizer.coarse": True,
        "localizer.test_time_augmentation": False,
        "localizer.unsharp_sigma": None,
    },
    "countxplain": {
        "prototypes.background_weight": 1.0,
        "prototypes.channels": None,
        "prototypes.distinct": "",
        "prototypes.project_by_density": False,
        "prototypes.least_share": 0.0,
        "prototypes.contrast": False,
        "prototypes.places": "one",
        "prototypes.diversity": "cosine",
        "prototypes.margin": 2.0,
        "prototypes.start": "random",
    },
}
"""Fields that older configs lack, by method, with values that leave the network unchanged."""

REMOVED_FIELDS = {"model.combine": "add", "model.padding": "border", "model.align_corners": False}
"""Removed network options, with the value that every config had."""


def upgraded(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Metadata of schema 2 from those of schema 1.

    Args:
      facts: Metadata of a checkpoint or model file, without `schema`.

    Raises:
      KeyError: A field of schema 1 is missing.
      ValueError: The network has an option that no longer exists.
    """
    new = copy.deepcopy(dict(facts))
    config = new["config"]
    for path, value in REMOVED_FIELDS.items():
        *parents, last = path.split(".")
        for node in _nodes(config, parents):
            if node.pop(last, value) != value:
                raise ValueError(f"its config.{path} is not {value!r}, the only one there is now")
    for path, name in CONFIG_FIELDS.items():
        *parents, last = path.split(".")
        for node in _nodes(config, parents):
            if last in node:
                node[name] = node.pop(last)
    new["readout"] = {READOUT_FIELDS.get(k, k): v for k, v in facts["readout"].items()}
    new["radius"] = config["radius"]
    normalise = config["data"].get("normalise_diameter") or {}
    new["resampling"] = {
        "factor": new.pop("scale"),
        "patches": new.pop("patches"),
        "pixel_size": new["preprocessing"].pop("pixel_size", None),
        "cell_diameter": normalise.get("diameter"),
    }
    return {"schema": 2, **new}


def completed(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Metadata whose config has the fields that were added to schema 2 after it was introduced."""
    new = copy.deepcopy(dict(facts))
    for path, value in MISSING_FIELDS.get(new["config"]["method"], {}).items():
        *parents, last = path.split(".")
        for node in _nodes(new["config"], parents):
            node.setdefault(last, value)
    return new


def _nodes(tree: dict[str, Any], path: list[str]) -> Iterator[dict[str, Any]]:
    """The dicts at a path of names."""
    if not path:
        yield tree
        return
    names = list(tree) if path[0] == "*" else [path[0]]
    for name in names:
        if isinstance(tree.get(name), dict):
            yield from _nodes(tree[name], path[1:])
