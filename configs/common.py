"""What several configs share: presets, data sets, and the settings of focal consistency."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from ml_collections import ConfigDict, config_dict

from cellcount_jax import defaults

Change = Callable[[ConfigDict], None]


def apply_preset(config: ConfigDict, preset: str, presets: Mapping[str, Change]) -> ConfigDict:
    """Applies the change that a preset stands for; "" leaves the config as it is.

    Raises:
      ValueError: no such preset.
    """
    if preset and preset not in presets:
        raise ValueError(f"no preset {preset!r}; there are '', {', '.join(presets)}")
    if preset:
        presets[preset](config)
    return config


def parts_of(preset: str, *known: str) -> set[str]:
    """The parts of a preset such as `quick_gaussian`, which underscores join.

    Raises:
      ValueError: an unknown part.
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
    """The same on another data set.

    Args:
      config: changed in place.
      name: of the data set.
      protocol: how it is split; None keeps the config's.
      **patches: how its images are cut, see `data.patches.cut`.
    """
    config.data.name, config.data.protocol = name, protocol or config.data.protocol
    config.data.patches = ConfigDict(patches)
    return config


def two_steps(plan: ConfigDict) -> None:
    """Cuts a stage down to two steps of two images, for tests."""
    plan.batch_size.labelled = 2
    plan.steps, plan.eval_every, plan.optimizer.warmup_steps = 2, 1, 0


DECODER_THRESHOLDS = (0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75)
"""Thresholds of both decoders, as a share of a single cell's peak, among which labelled training
images choose. In true inverse-distance maps close neighbours separate at 0.5 and above only."""

UNSHARP_THRESHOLDS = (
    *(0.003, 0.004, 0.005, 0.0065, 0.008, 0.01, 0.013, 0.016, 0.02, 0.026, 0.033, 0.04),
    *(0.055, 0.07, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5),
)
"""The same for unsharp peaks, which are far lower in predicted maps than in true ones."""


def consistency(*, ndim: int = 2) -> ConfigDict:
    """Focal consistency as published (MOVI 2022) and released.

    Args:
      ndim: 2 for images, 3 for volumes.
    """
    flat = ndim == 2
    model = {
        "base_channels": 32,
        "levels": 4,
        "norm": "instance",
        "dropout": config_dict.placeholder(float),  # None: as published with the norm
        "window": (256, 256) if flat else (64, 224, 224),
        "standardise": not flat,
        "target": "inverse_distance",
        "target_scale": 100.0 if flat else 1.0,
        "sigma": (2.0,) * ndim,
        "spacing": config_dict.placeholder(tuple),
        "cutoff": 0.0,
        "decoders": ("components", "peaks"),
        "thresholds": DECODER_THRESHOLDS,
        "f1_tolerance": 0.0,  # within which the number of points chooses a threshold
        "unsharp_sigma": config_dict.placeholder(float),  # pixels, see methods.postprocess
        "test_time_augmentation": False,  # mean over mirror images and quarter turns
    }
    consistency = {
        "weight": 1.0,
        "ramp_steps": 150,
        "ramp_shape": "exponential",
        "noise_levels": "all",
        "normalise": "nonzero",
        "peak_threshold": config_dict.placeholder(float),
    }
    plan = defaults.stage(
        steps=12_750,
        eval_every=250,
        select="last",
        crop=(224, 224) if flat else (56, 200, 200),
        batch_size={"labelled": 8, "unlabelled": 80} if flat else {"labelled": 1, "unlabelled": 4},
        optimizer={
            "name": "adamw",
            "learning_rate": 1e-3,
            "first_cycle": 50,
            "floor": 0.0,
            "weight_decay": 1.0,
        },
    )
    return defaults.run(
        "consistency", model=model, consistency=consistency, stages={"consistency": plan}
    )


def unsharp_peaks(sigma: float) -> dict[str, Any]:
    """Fields of the model that separate close cells in the maps of a short training."""
    return {
        "test_time_augmentation": True,
        "unsharp_sigma": sigma,
        "thresholds": UNSHARP_THRESHOLDS,
        "f1_tolerance": 0.003,
    }


def consistency_preset(config: ConfigDict, preset: str, *, quick: Change) -> ConfigDict:
    """Applies a preset: a size and a row of the ablation, joined by an underscore.

    Args:
      config: of `consistency`, as published.
      preset: "" or parts of `quick`, `tiny`, `supervised`, `gaussian`, such as `quick_gaussian`.
      quick: makes the config a short one.

    Raises:
      ValueError: an unknown part.
    """
    parts = parts_of(preset, "quick", "tiny", "supervised", "gaussian")
    plan, model = config.stages.consistency, config.model
    ndim = len(model.window)
    short = bool(parts & {"quick", "tiny"})
    if short:
        quick(config)
    if "tiny" in parts:
        model.base_channels = 2
        model.window = (32, 32) if ndim == 2 else (16, 16, 16)
        two_steps(plan)
        plan.batch_size.unlabelled = 2
    if parts & {"supervised", "gaussian"}:
        del plan.batch_size["unlabelled"]
    if "gaussian" in parts:
        model.target = "gaussian"
        # As high at a dot as the inverse distances would be, or as SAU-Net's code scales them.
        height = 1 / math.prod(math.sqrt(2 * math.pi) * s for s in model.sigma)
        published = 100.0 if ndim == 2 else 1000.0
        model.target_scale = model.target_scale / height if short else published
    return config
