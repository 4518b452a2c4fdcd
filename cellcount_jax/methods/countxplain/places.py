"""Positions of the training images that show cells, and those that show none, by their targets."""

import numpy as np
from jax.typing import ArrayLike
from scipy import ndimage

from cellcount_jax.losses.prototypes import EMPTY_SHARE


def dense(target: ArrayLike) -> np.ndarray:
    """Where the density is at least that of a typical peak.

    A typical peak: the median over the positions that are the highest of their 3x3 neighbours and
    reach a tenth of the highest of all.

    Args:
      target: Density [N, h, w].

    Returns:
      Bool, [N, h, w].
    """
    density = np.asarray(target)
    highest = ndimage.maximum_filter(density, (1, 3, 3))
    peaks = density[(density == highest) & (density > 0.1 * density.max())]
    return density >= np.median(peaks)


def empty(target: ArrayLike) -> np.ndarray:
    """The emptiest tenth of each image's positions, bool [N, h, w], from a density [N, h, w]."""
    density = np.asarray(target)
    level = np.quantile(density.reshape(len(density), -1), EMPTY_SHARE, axis=1)
    return density <= level[:, None, None]
