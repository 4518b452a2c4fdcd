"""Prototypes that explain counts on a lab's folder: a config with settings inferred from it."""

from ml_collections import ConfigDict

from cellcount_jax import defaults, short_trainings
from cellcount_jax.data.infer_settings import InferredSettings
from cellcount_jax.training.lab import settings

PROJECTIONS = 3
"""Number of projections during training; a quarter of the steps is left after the last."""


def config_for(
    found: InferredSettings,
    *,
    n_train: int,
    seed: int = 0,
    steps: int | None = None,
) -> ConfigDict:
    """The config of a density network and its prototypes, both trained in minutes.

    Args:
      found: Settings inferred from the labelled images.
      n_train: Number of them that are trained on.
      seed: Seed of the training.
      steps: Number of steps of each of the two stages; None: those of the short presets.

    Raises:
      ValueError: The images are volumes.
    """
    if len(found.crop) != 2:
        raise ValueError(
            "--explain trains on 2-D images, and these are volumes; leave it out, or train on "
            "planes or projections"
        )
    config = defaults.csrnet()
    short_trainings.short_csrnet(config)
    defaults.add_prototypes(config)
    short_trainings.short_prototypes(config)
    settings.apply_inferred(config, found, seed=seed)
    network, prototypes = config.stages.csrnet, config.stages.prototypes
    network.crop = found.crop
    network.update(short_trainings.LAB_JITTER)
    prototypes.batch_size.labelled = min(prototypes.batch_size.labelled, n_train)
    settings.set_steps(network, steps or network.steps, n_train=n_train)
    epochs = settings.set_steps(prototypes, steps or prototypes.steps, n_train=n_train)
    config.prototypes.project_every = max(1, epochs // (PROJECTIONS + 1))
    return config
