"""The default counter on a lab's folder: a config with settings inferred from its images."""

from ml_collections import ConfigDict

from cellcount_jax import defaults
from cellcount_jax.data.augment import IntensityJitter
from cellcount_jax.data.infer_settings import InferredSettings

N_VALIDATIONS = 16
"""Number of validations during training, for the curve and to choose a checkpoint."""

CHANNELS = {2: (8, 16, 32, 64), 3: (8, 16, 32)}
"""Channels of the network at each level, by number of space axes."""

STEPS, BATCH = {2: 1500, 3: 500}, {2: 8, 3: 4}
"""Number of training steps, by number of space axes."""

GATE = 0.15
"""Fraction of one cell's peak that the density must reach nearby to be counted."""

COUNT_WEIGHT = 0.05
"""Loss weight of the crop's count error."""

JITTER = IntensityJitter(contrast=0.3, offset=0.2, gamma=0.3, noise=0.2, blur=0.5, colour=0.4)
"""Random intensity changes that stand for another exposure, camera, focus or stain."""


def config_for(
    found: InferredSettings,
    *,
    n_train: int,
    seed: int = 0,
    steps: int | None = None,
) -> ConfigDict:
    """The config of a short training of the default counter.

    Args:
      found: Settings inferred from the labelled images.
      n_train: Number of them that are trained on.
      seed: Seed of the training.
      steps: Number of training steps; None: `STEPS`.
    """
    config = defaults.density()
    config.seed = seed
    config.radius = found.radius
    config.model.sigma = found.sigma
    plan = config.stages.density
    plan.crop = found.crop
    ndim = len(found.crop)
    config.model.ndim, config.model.channels = ndim, CHANNELS[ndim]
    plan.batch_size.labelled, plan.steps = BATCH[ndim], steps or STEPS[ndim]
    plan.optimizer.warmup_steps = min(plan.optimizer.warmup_steps, plan.steps // 2)
    plan.update(JITTER._asdict())
    plan.eval_every = max(1, plan.steps * plan.batch_size.labelled // (N_VALIDATIONS * n_train))
    config.model.gate, config.model.count_weight = GATE, COUNT_WEIGHT
    # Percentiles of each image: a camera's offset and gain make no difference.
    config.preprocessing.update(
        {"channels": found.channels, "normalise": "percentile", "mean": (0.5,), "std": (0.25,)}
    )
    return config
