"""What several configs share: presets, datasets, and the settings of focal consistency."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from ml_collections import ConfigDict

Change = Callable[[ConfigDict], None]


def apply_preset(config: ConfigDict, preset: str, presets: Mapping[str, Change]) -> ConfigDict:
    """Applies the change that a preset stands for; "" leaves the config as it is.

    Raises:
      ValueError: No such preset.
    """
    if preset and preset not in presets:
        raise ValueError(f"no preset {preset!r}; there are '', {', '.join(presets)}")
    if preset:
        presets[preset](config)
    return config


def parts_of(preset: str, *known: str) -> set[str]:
    """The parts of a preset such as `quick_gaussian`, which underscores join.

    Raises:
      ValueError: An unknown part.
    """
    parts = {part for part in preset.split("_") if part}
    if parts - set(known):
        raise ValueError(
            f"no preset {preset!r}; there are '', {', '.join(known)}, and several of them joined "
            "by an underscore"
        )
    return parts


def on_dataset(
    config: ConfigDict, name: str, *, protocol: str | None = None, **patches: Any
) -> ConfigDict:
    """The same on another dataset.

    Args:
      config: Changed in place.
      name: Name of the dataset.
      protocol: How it is split; None keeps the config's.
      **patches: How its images are cut, see `data.patches.cut`.
    """
    config.data.name, config.data.protocol = name, protocol or config.data.protocol
    config.data.patches = ConfigDict(patches)
    return config


def two_steps(plan: ConfigDict) -> None:
    """Cuts a stage down to two steps of two images, for tests."""
    plan.batch_size.labelled = 2
    plan.steps, plan.eval_every, plan.optimizer.warmup_steps = 2, 1, 0


RELEASED = {
    "weight": 1.0,
    "scale": "absolute",
    "noise_levels": "all",
    "noise_amplitude": 1.0,
    "normalise": "nonzero",
    "peak_threshold": None,
    "teacher": "student",
    "teacher_views": False,
    "statistics": "labelled",
}
"""The loss on unlabelled images as in the code released with MOVI 2022."""


def few_labels(config: ConfigDict) -> None:
    """Settings for one to sixteen labelled images, the same for every set: minutes on 2 cores.

    Instance norm does not couple the streams. Student and teacher differ by noise in their
    features, as in the paper; a view of its own for the student and an averaged teacher did worse,
    see docs/experiments-log.md. The focal term is a weighted mean.
    """
    plan, options = config.stages.consistency, config.consistency
    config.model.update({"norm": "instance", "test_time_augmentation": False})
    options.update({"normalise": "weight", "ramp_steps": 100})
    plan.batch_size.update({"labelled": 4, "unlabelled": 4})
    plan.update({"steps": 600, "eval_every": 600})
    if len(config.model.window) == 2:
        plan.crop = (96, 96)


def consistency_preset(config: ConfigDict, preset: str, *, quick: Change) -> ConfigDict:
    """Applies a preset: a size, a row of the ablation, or the released loss, joined by underscores.

    Args:
      config: Config of `consistency`, as published.
      preset: "" or parts of `quick`, `tiny`, `few`, `supervised`, `gaussian`, `released`, such as
        `quick_gaussian`. `few`: see `few_labels`. `released`: the loss of the released code, where
        every position of a flat map is a peak of weight 1.
      quick: Makes the config a short one.

    Raises:
      ValueError: An unknown part.
    """
    parts = parts_of(preset, "quick", "tiny", "few", "supervised", "gaussian", "released")
    plan, model = config.stages.consistency, config.model
    ndim = len(model.window)
    short = bool(parts & {"quick", "tiny", "few"})
    if short:
        quick(config)
    if "few" in parts:
        few_labels(config)
    if "tiny" in parts:
        model.base_channels = 2
        model.window = (32, 32) if ndim == 2 else (16, 16, 16)
        two_steps(plan)
        plan.batch_size.unlabelled = 2
    if "released" in parts:
        config.consistency.update(RELEASED)
        config.consistency.view.update(dict.fromkeys(config.consistency.view, 0.0))
    if parts & {"supervised", "gaussian"}:
        del plan.batch_size["unlabelled"]
    if "gaussian" in parts:
        model.target = "gaussian"
        # As high at a dot as the inverse distances would be, or as SAU-Net's code scales them.
        height = 1 / math.prod(math.sqrt(2 * math.pi) * s for s in model.sigma)
        published = 100.0 if ndim == 2 else 1000.0
        model.target_scale = model.target_scale / height if short else published
    return config
