"""The default counter on a lab's folder: a config with settings inferred from its images."""

from ml_collections import ConfigDict

from cellcount_jax import defaults
from cellcount_jax.data.augment import IntensityJitter
from cellcount_jax.data.infer_settings import InferredSettings

N_VALIDATIONS = 16
"""During training, for the curve and to choose a checkpoint by."""

CHANNELS = {2: (8, 16, 32, 64), 3: (8, 16, 32)}
"""Of the network, by number of space axes."""

STEPS, BATCH = {2: 1500, 3: 500}, {2: 8, 3: 4}
"""Of training, by number of space axes."""

GATE = 0.15
"""Part of one cell's peak that density must reach nearby to count."""

COUNT_WEIGHT = 0.05
"""Of the error of a crop's count in the loss."""

JITTER = IntensityJitter(contrast=0.3, offset=0.2, gamma=0.3, noise=0.2, blur=0.5, colour=0.4)
"""What differs between fields of one lab: exposure, camera, focus, stain."""


def config_for(
    found: InferredSettings,
    *,
    n_train: int,
    seed: int = 0,
    steps: int | None = None,
) -> ConfigDict:
    """The config of a short training of the default counter.

    Args:
      found: settings inferred from the labelled images.
      n_train: number of them that are trained on.
      seed: of the training.
      steps: of the training; None: `STEPS`.
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
