"""The default counter on a lab's folder: a config with settings inferred from its images."""

from ml_collections import ConfigDict

from cellcount_jax import defaults
from cellcount_jax.data.infer_settings import InferredSettings
from cellcount_jax.training.lab import settings

CHANNELS = {2: (8, 16, 32, 64), 3: (8, 16, 32)}
"""Channels of the network at each level, by number of space axes."""

STEPS, BATCH = {2: 1500, 3: 500}, {2: 8, 3: 4}
"""Number of training steps and of crops per step, by number of space axes."""

GATE = 0.15
"""Fraction of one cell's peak that the density must reach nearby to be counted."""

COUNT_WEIGHT = 0.05
"""Loss weight of the crop's count error."""


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
    settings.apply_inferred(config, found, seed=seed)
    ndim = len(found.crop)
    config.model.ndim, config.model.channels = ndim, CHANNELS[ndim]
    config.model.gate, config.model.count_weight = GATE, COUNT_WEIGHT
    plan = config.stages.density
    plan.batch_size.labelled, plan.crop = BATCH[ndim], found.crop
    plan.update(settings.JITTER._asdict())
    settings.set_steps(plan, steps or STEPS[ndim], n_train=n_train)
    return config
