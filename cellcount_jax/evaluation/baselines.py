"""Counters that never look for a cell: the figures any method must beat.

Images are [*space, C] with the file's own values; an image's brightness is the mean over its
channels, divided by 255 for 8-bit images (other types by the training part's range).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

BINS = 16
STRENGTHS = np.logspace(-4, 4, 33)
"""Ridge penalties tried, for standardised histograms."""


def baseline_mean(train_counts: ArrayLike, n_test: int) -> np.ndarray:
    """The mean training count for every test image.

    Args:
      train_counts: [N] true counts.
      n_test: number of test images.

    Returns:
      [n_test] float64 counts.
    """
    return np.full(n_test, np.mean(np.asarray(train_counts, np.float64)))


def baseline_intensity(
    train_images: Sequence[np.ndarray], train_counts: ArrayLike, test_images: Sequence[np.ndarray]
) -> np.ndarray:
    """A straight line through the images' total intensity, by least squares.

    Args:
      train_images: N images [*space, C].
      train_counts: [N] true counts.
      test_images: M images [*space, C].

    Returns:
      [M] float64 counts.
    """
    scale = _scale(train_images)
    totals = [
        np.array([_brightness(image, scale).sum() for image in images])
        for images in (train_images, test_images)
    ]
    counts = np.asarray(train_counts, np.float64)
    centred = totals[0] - totals[0].mean()
    variance = np.square(centred).sum()
    slope = (centred * counts).sum() / variance if variance > 0 else 0.0
    return counts.mean() + slope * (totals[1] - totals[0].mean())


def baseline_histogram(
    train_images: Sequence[np.ndarray], train_counts: ArrayLike, test_images: Sequence[np.ndarray]
) -> np.ndarray:
    """Ridge regression on a 16-bin histogram of brightness.

    The bins hold numbers of pixels; the penalty is the one with the least leave-one-out error on
    the training images.

    Args:
      train_images: N images [*space, C].
      train_counts: [N] true counts.
      test_images: M images [*space, C].

    Returns:
      [M] float64 counts.
    """
    scale = _scale(train_images)
    train, test = (
        np.array([_histogram(_brightness(image, scale)) for image in images]).reshape(-1, BINS)
        for images in (train_images, test_images)
    )
    counts = np.asarray(train_counts, np.float64)
    mean, spread = train.mean(axis=0), train.std(axis=0)
    spread = np.where(spread > 0, spread, 1.0)
    return _ridge((train - mean) / spread, counts, (test - mean) / spread)


def _scale(images: Sequence[np.ndarray]) -> float:
    """Value that is brightness 1."""
    if all(image.dtype == np.uint8 for image in images):
        return 255.0
    return max(1e-12, *(float(image.mean(axis=-1).max()) for image in images))


def _brightness(image: np.ndarray, scale: float) -> np.ndarray:
    return image.mean(axis=-1, dtype=np.float64) / scale


def _histogram(brightness: np.ndarray) -> np.ndarray:
    """Pixels per bin between 0 and 1; brighter and darker ones fall in the outermost bins."""
    index = np.clip((brightness * BINS).astype(np.int64), 0, BINS - 1)
    return np.bincount(index.ravel(), minlength=BINS)


def _ridge(features: np.ndarray, counts: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Predictions at rows of `at`; `features` are centred, the intercept is not penalised."""
    u, s, vt = np.linalg.svd(features, full_matrices=False)
    centred = counts - counts.mean()
    best, chosen = np.inf, STRENGTHS[-1]
    for strength in STRENGTHS:
        shrink = s**2 / (s**2 + strength)
        fitted = u @ (shrink * (u.T @ centred))
        # A point's own weight in its fit gives its error when it is left out, in closed form.
        own = (u**2 @ shrink) + 1 / len(counts)
        error = np.square((centred - fitted) / np.maximum(1 - own, 1e-9)).sum()
        if error < best:
            best, chosen = error, strength
    slope = vt.T @ (s / (s**2 + chosen) * (u.T @ centred))
    return counts.mean() + at @ slope
