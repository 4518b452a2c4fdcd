"""What the trainings of a 2-D or 3-D counter on a lab's folder have in common."""

from ml_collections import ConfigDict

from cellcount_jax import short_trainings
from cellcount_jax.data.infer_settings import InferredSettings

N_VALIDATIONS = 16
"""Number of validations during training, for the curve and to choose a checkpoint."""


def apply_inferred(config: ConfigDict, found: InferredSettings, *, seed: int) -> None:
    """Sets seed, matching radius, target and preprocessing."""
    config.seed, config.radius, config.model.sigma = seed, found.radius, found.sigma
    config.preprocessing.update({"channels": found.channels, **short_trainings.LAB_PREPROCESSING})


def set_steps(plan: ConfigDict, steps: int, *, n_train: int) -> int:
    """Sets a stage's number of steps and what depends on it; returns the number of epochs.

    Args:
      plan: Training plan of the stage, with its batch size.
      steps: Number of steps.
      n_train: Number of labelled images.
    """
    plan.steps = steps
    plan.optimizer.warmup_steps = min(plan.optimizer.warmup_steps, steps // 2)
    samples = steps * plan.batch_size.labelled
    plan.eval_every = max(1, samples // (N_VALIDATIONS * n_train))
    return samples // n_train
