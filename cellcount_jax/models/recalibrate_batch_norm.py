"""Batch-norm statistics recomputed over a whole dataset, once training is over.

Running averages trail behind the weights and were taken on augmented images. SAU-Net (ACM BCB 2019)
calls the remedy its batch-norm extension: pass the training set through the final network once, in
training mode and without augmentation, and keep the statistics of that pass.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

Batch = TypeVar("Batch")
Statistics = Mapping[str, Any]


def recalibrate_batch_norm(
    update: Callable[[Statistics, Batch], Statistics],
    batch_stats: Statistics,
    batches: Iterable[tuple[Batch, int]],
    *,
    momentum: float = 0.9,
) -> Statistics:
    """Means and variances over all the real rows of the batches, pooled exactly.

    Every batch counts by its number of real rows, so padding and a ragged last batch do no harm.
    Images must be of one size. In the deeper layers "the variance over the set" is that of
    features normalised batch by batch, so large batches are nearer to inference than small ones.

    Args:
      update: Maps statistics and a batch to the statistics after one training-mode pass of a model
        without dropout, best jitted; the model masks the padding rows.
      batch_stats: Statistics of the trained model; their tree is kept, their values are not used.
      batches: Pairs of a batch and its number of real rows; those without any are skipped.
      momentum: Weight of the old statistics in the update that the model's norms make.

    Returns:
      New statistics, a tree like `batch_stats`, float32.

    Raises:
      ValueError: No batch has a real row.
    """
    blank = jax.tree.map(jnp.zeros_like, batch_stats)
    total = 0
    pooled: dict[tuple[str, ...], np.ndarray] = {}
    for batch, rows in batches:
        if rows:
            total += rows
            update_of_blank = traverse_util.flatten_dict(update(blank, batch))
            fresh = {
                path: np.asarray(value, np.float64) / (1 - momentum)
                for path, value in update_of_blank.items()
            }
            pooled = _pool(pooled, fresh, rows / total) if pooled else fresh
    if not pooled:
        raise ValueError("batch norm cannot be recalibrated: the batches hold no image")
    leaves = {path: jnp.asarray(value, jnp.float32) for path, value in pooled.items()}
    return traverse_util.unflatten_dict(leaves)


def _pool(
    old: Mapping[tuple[str, ...], np.ndarray],
    new: Mapping[tuple[str, ...], np.ndarray],
    share: float,
) -> dict[tuple[str, ...], np.ndarray]:
    """Means and variances of a union, `share` of it new (Chan et al., 1983)."""
    pooled = {}
    for path, value in old.items():
        pooled[path] = value + share * (new[path] - value)
        if path[-1] == "var":
            mean = (*path[:-1], "mean")
            pooled[path] += share * (1 - share) * (new[mean] - old[mean]) ** 2
    return pooled
