"""Focal consistency on a lab's folder: a config with settings inferred from its images."""

from ml_collections import ConfigDict

from cellcount_jax import defaults, short_trainings
from cellcount_jax.data.infer_settings import InferredSettings

STEPS = {2: 800, 3: 600}
"""Number of training steps, by number of space axes."""

BATCH = {2: {"labelled": 8, "unlabelled": 4}, 3: {"labelled": 2, "unlabelled": 2}}
"""Number of crops per step of each stream."""

WINDOW_CROPS = 2
"""Length of a window in crops: larger windows give instance norm more of the image than in training
and reduce border effects."""


def config_for(found: InferredSettings, *, seed: int, steps: int | None) -> ConfigDict:
    """The config of a short training on labelled and unlabelled images.

    Args:
      found: Settings inferred from the labelled images.
      seed: Seed of the training.
      steps: Number of training steps; None: `STEPS`.
    """
    ndim = len(found.crop)
    config = defaults.consistency(ndim=ndim)
    config.seed, config.radius = seed, found.radius
    config.preprocessing.update(
        {
            "channels": found.channels,
            "normalise": "percentile",
            "mean": (0.3,),
            "std": (0.25,),
        }
    )
    config.model.update({"base_channels": 8, "target_scale": 10.0, "standardise": False})
    config.model.update(short_trainings.unsharp_peaks(0.6))
    config.model.sigma = (found.sigma,) * ndim
    config.model.window = tuple(WINDOW_CROPS * side for side in found.crop)
    plan = config.stages.consistency
    plan.batch_size.update(BATCH[ndim])
    plan.update({"crop": found.crop, "eval_every": 50, "ema_decay": 0.98})
    plan.steps = steps or STEPS[ndim]
    plan.optimizer.update(defaults.one_cycle(2e-3) | {"weight_decay": 0.0})
    plan.optimizer.warmup_steps = min(plan.optimizer.warmup_steps, plan.steps // 2)
    return config
