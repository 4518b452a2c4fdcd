"""The default counter on a lab's folder: a config with settings inferred from its images."""

from ml_collections import ConfigDict

from cellcount_jax import short_trainings
from cellcount_jax.data.infer_settings import InferredSettings
from cellcount_jax.training.lab import settings


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
      steps: Number of training steps; None: the default.
    """
    config = short_trainings.lab_density(len(found.crop))
    settings.apply_inferred(config, found, seed=seed)
    plan = config.stages.density
    plan.crop = found.crop
    settings.set_steps(plan, steps or plan.steps, n_train=n_train)
    return config
