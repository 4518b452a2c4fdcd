"""Prototypes that explain counts on a lab's folder: a config with settings inferred from it."""

from ml_collections import ConfigDict

from cellcount_jax import defaults
from cellcount_jax.data.infer_settings import InferredSettings
from cellcount_jax.training.lab.density import JITTER, N_VALIDATIONS

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
    defaults.short_csrnet(config)
    defaults.add_prototypes(config)
    defaults.short_prototypes(config)
    config.seed, config.radius, config.model.sigma = seed, found.radius, found.sigma
    config.preprocessing.update(
        {"channels": found.channels, "normalise": "percentile", "mean": (0.5,), "std": (0.25,)}
    )
    network, prototypes = config.stages.csrnet, config.stages.prototypes
    network.crop = found.crop
    network.update(JITTER._asdict())
    prototypes.batch_size.labelled = min(prototypes.batch_size.labelled, n_train)
    for plan in (network, prototypes):
        plan.steps = steps or plan.steps
        epochs = plan.steps * plan.batch_size.labelled / n_train
        plan.eval_every = max(1, int(epochs / N_VALIDATIONS))
        plan.optimizer.warmup_steps = min(plan.optimizer.warmup_steps, plan.steps // 2)
    epochs = prototypes.steps * prototypes.batch_size.labelled / n_train
    config.prototypes.project_every = max(1, int(epochs / (PROJECTIONS + 1)))
    return config
