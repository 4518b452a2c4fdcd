"""Settings that several results share, as plain ConfigDicts; imports no jax.

`configs/` call these and override; `cellcount train` uses them as they are.
"""

import math
from collections.abc import Callable
from typing import Any

from ml_collections import ConfigDict, config_dict

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

THRESHOLDS = (0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6)
"""Levels of peaks, as a share of a lone cell's peak, among which validation chooses."""

AS_BEFORE = {
    "accumulate": 1,  # parts of a batch, one after the other through the network
    "remat": "none",  # or convolutions, pools: what the backward pass need not compute again
    "steps_per_call": 1,  # where data are resident
}
"""Fields of a stage that older runs' config.json lacks, with values that change nothing."""

RUN_AS_BEFORE = {
    "evaluate_on": "test",  # or validation, while settings are being chosen
}
"""The same of a run."""

PEAKS_AS_BEFORE = {
    "views": False,  # average the maps of all mirror images and quarter turns
    "tolerance": 0.0,  # of F1, within which the number of points chooses a threshold
}
"""The same of a model's fields."""

PROTOTYPES_AS_BEFORE = {
    "background_weight": 1.0,  # of the pull on background prototypes beside that on cell ones
}
"""The same of prototypes."""

ALL_AS_BEFORE = AS_BEFORE | RUN_AS_BEFORE | PEAKS_AS_BEFORE | PROTOTYPES_AS_BEFORE


def run(method: str, **fields: Any) -> ConfigDict:
    """What every run has; `fields` are added or replaced."""
    base = {
        "method": method,
        "seed": 0,
        "dtype": "float32",
        "radius": 5.0,
        **RUN_AS_BEFORE,
        "data": {
            "name": config_dict.placeholder(str),
            "protocol": config_dict.placeholder(str),
            "patches": config_dict.placeholder(ConfigDict),
            "n_train": config_dict.placeholder(int),
            "voxel_size": config_dict.placeholder(tuple),  # micrometres that volumes are brought to
            "on_device_mib": 2048,  # larger training data are streamed from the host
        },
        "preprocessing": {
            "channels": 3,
            "normalise": "dtype",
            "mean": IMAGENET_MEAN,
            "std": IMAGENET_STD,
        },
    }
    return ConfigDict({**base, **fields})


def stage(*, epochs: int | None = None, steps: int | None = None, **fields: Any) -> ConfigDict:
    """How a stage is trained: batch 8, Adam 1e-4, cosine with doubling warm restarts.

    Args:
      epochs: of the labelled images; give these or `steps`.
      steps: takes precedence over epochs.
      **fields: added or replaced; those of `optimizer` one by one.
    """
    optimizer = {
        "name": "adam",
        "learning_rate": 1e-4,
        "schedule": "warm_restarts",
        "first_cycle_epochs": 10,
        "multiplier": 2,
        "floor": 1e-6,
        "warmup_steps": 0,
        "weight_decay": 0.0,
        "clip": config_dict.placeholder(float),
    }
    optimizer.update(fields.pop("optimizer", {}))
    plan = {
        "batch_size": {"labelled": 8},
        "epochs": config_dict.placeholder(int),
        "steps": config_dict.placeholder(int),
        "eval_every": 1,  # epochs
        "select": "best",
        "average": 0.0,  # decay of running means of the weights; 0: the last weights predict
        "crop": config_dict.placeholder(tuple),
        "flips": True,
        "contrast": 0.0,
        "offset": 0.0,
        "optimizer": optimizer,
        **AS_BEFORE,
    }
    plan = ConfigDict({**plan, **fields})
    plan.epochs, plan.steps = epochs, steps
    return plan


def one_cycle(learning_rate: float) -> dict[str, Any]:
    """Optimizer fields of a short training: warm-up, one cosine, clipped gradients."""
    return {
        "learning_rate": learning_rate,
        "schedule": "cosine",
        "warmup_steps": 30,
        "clip": 1.0,
    }


def density() -> ConfigDict:
    """The default counter: a compact UNet on Gaussian densities, minutes on two CPU cores."""
    return run(
        "density",
        model=ConfigDict(
            {
                "channels": (8, 16, 32, 64),
                "sigma": 1.0,
                "target_scale": 100.0,
                "thresholds": THRESHOLDS,
            }
        ),
        stages=ConfigDict(
            {
                "density": stage(
                    steps=800,
                    eval_every=8,
                    crop=(128, 128),
                    average=0.98,
                    optimizer=one_cycle(2e-3),
                )
            }
        ),
    )


DECODER_THRESHOLDS = (0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75)
"""Levels of both decoders, as a share of the height at a dot, among which labelled training
images choose. In true inverse-distance maps close neighbours part at 0.5 and above only."""

SHARPENED_THRESHOLDS = (
    *(0.003, 0.004, 0.005, 0.0065, 0.008, 0.01, 0.013, 0.016, 0.02, 0.026, 0.033, 0.04),
    *(0.055, 0.07, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5),
)
"""The same of sharpened maps, whose predicted peaks are far lower than a true map's."""


def consistency(*, ndim: int = 2) -> ConfigDict:
    """Focal consistency as published (MOVI 2022) and released.

    Args:
      ndim: 2 for images, 3 for volumes.
    """
    config = run(
        "consistency",
        model=ConfigDict(
            {
                "base_channels": 32,
                "levels": 4,
                "norm": "instance",
                "dropout": config_dict.placeholder(float),
                "window": (256, 256) if ndim == 2 else (64, 224, 224),
                "standardise": ndim == 3,
                "target": "inverse_distance",
                "target_scale": 100.0 if ndim == 2 else 1.0,
                "sigma": (2.0,) * ndim,
                "spacing": config_dict.placeholder(tuple),
                "cutoff": 0.0,
                "decoders": ("components", "peaks"),
                "thresholds": DECODER_THRESHOLDS,
                "sharpen": config_dict.placeholder(float),  # blur in pixels, see methods.peak_maps
                **PEAKS_AS_BEFORE,
            }
        ),
        consistency=ConfigDict(
            {
                "weight": 1.0,
                "ramp_steps": 150,
                "ramp_shape": "exponential",
                "noise_levels": "all",
                "noise_amplitude": 1.0,
                "noise_shared": True,
                "normalise": "nonzero",
                "peak_threshold": config_dict.placeholder(float),
            }
        ),
        stages=ConfigDict(
            {
                "consistency": stage(
                    steps=12_750,
                    eval_every=250,
                    select="last",
                    crop=(224, 224) if ndim == 2 else (56, 200, 200),
                    optimizer={
                        "name": "adamw",
                        "learning_rate": 1e-3,
                        "first_cycle": 50,
                        "floor": 0.0,
                        "weight_decay": 1.0,
                    },
                )
            }
        ),
    )
    labelled, unlabelled = (8, 80) if ndim == 2 else (1, 4)
    plan = config.stages.consistency
    plan.batch_size = ConfigDict({"labelled": labelled, "unlabelled": unlabelled})
    return config


def sharper_peaks(sigma: float) -> dict[str, Any]:
    """Fields of the model that tell close cells apart in the maps of a short training."""
    return {
        "views": True,
        "sharpen": sigma,
        "thresholds": SHARPENED_THRESHOLDS,
        "tolerance": 0.003,
    }


def consistency_preset(
    config: ConfigDict, preset: str, *, quick: Callable[[ConfigDict], None]
) -> ConfigDict:
    """Applies a preset: parts joined by underscores, of a size and a row of the ablation.

    Args:
      config: of `consistency`, as published.
      preset: "" or parts of `quick`, `tiny`, `supervised`, `gaussian`, such as `quick_gaussian`.
      quick: makes the config a short one.

    Raises:
      ValueError: an unknown part.
    """
    parts = [p for p in preset.split("_") if p]
    unknown = [p for p in parts if p not in ("quick", "tiny", "supervised", "gaussian")]
    if unknown:
        raise ValueError(
            f"no preset {preset!r}; there are '', quick, tiny, supervised, gaussian, and two of "
            "them joined by an underscore, such as quick_gaussian"
        )
    plan = config.stages.consistency
    size = {"quick", "tiny"} & set(parts)
    if size:
        quick(config)
    if "tiny" in parts:
        config.model.base_channels = 2
        ndim = len(config.model.window)
        config.model.window = (32, 32) if ndim == 2 else (16, 16, 16)
        plan.batch_size.update({"labelled": 2, "unlabelled": 2})
        plan.steps = 2
        plan.eval_every = 1
        plan.optimizer.warmup_steps = 0
    if "supervised" in parts or "gaussian" in parts:
        del plan.batch_size["unlabelled"]
    if "gaussian" in parts:
        config.model.target = "gaussian"
        # As high at a dot as the inverse distances would be, or as SAU-Net's code scales them.
        height = 1 / math.prod(math.sqrt(2 * math.pi) * s for s in config.model.sigma)
        ndim = len(config.model.window)
        published = 100.0 if ndim == 2 else 1000.0
        config.model.target_scale = config.model.target_scale / height if size else published
    return config
