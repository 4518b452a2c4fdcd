"""Baselines that never look for a cell: the errors that any method must beat.

Each takes N training images [*space, C] with the file's own values, their counts [N] and M test
images, and returns counts [M] float64. An image's intensity is the mean over its channels, divided
by 255 for 8-bit images (other types by the training images' range).
"""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import ArrayLike

from cellcount_jax.data.sample import Sample
from cellcount_jax.evaluation.evaluate import Evaluation
from cellcount_jax.evaluation.summary import count_figures

N_BINS = 16

RIDGE_PENALTIES = np.logspace(-4, 4, 33)
"""Candidate ridge penalties, for standardised histograms."""


def baseline_errors(train: Sequence[Sample], evaluation: Evaluation) -> dict[str, float]:
    """Errors of all baselines, fitted on `train`, on the evaluated samples.

    Returns:
      `baseline_NAME_mae` for `mean`, `intensity` and `histogram` and, if images are cut,
      `baseline_NAME_patch_mae`.
    """
    counts = np.array([s.count for s in train], float)
    images = [[s.image for s in samples] for samples in (train, evaluation.samples)]
    predictions = {
        "mean": baseline_mean(counts, len(images[1])),
        "intensity": baseline_intensity(images[0], counts, images[1]),
        "histogram": baseline_histogram(images[0], counts, images[1]),
    }
    errors: dict[str, float] = {}
    for name, predicted in predictions.items():
        pairs = zip(evaluation.images, predicted.tolist(), strict=True)
        found = count_figures([dataclasses.replace(i, predicted=value) for i, value in pairs])
        keys = found.keys() & {"mae", "patch_mae"}
        errors |= {f"baseline_{name}_{key}": found[key] for key in keys}
    return errors


def baseline_mean(train_counts: ArrayLike, n_test: int) -> np.ndarray:
    """The mean training count for each of `n_test` images."""
    return np.full(n_test, np.mean(np.asarray(train_counts, np.float64)))


def baseline_intensity(
    train_images: Sequence[np.ndarray], train_counts: ArrayLike, test_images: Sequence[np.ndarray]
) -> np.ndarray:
    """Least-squares linear fit of the count to an image's total intensity."""
    train, test = (
        np.array([intensity.sum() for intensity in images])
        for images in _intensity(train_images, test_images)
    )
    counts = np.asarray(train_counts, np.float64)
    centred = train - train.mean()
    variance = np.square(centred).sum()
    slope = (centred * counts).sum() / variance if variance > 0 else 0.0
    return counts.mean() + slope * (test - train.mean())


def baseline_histogram(
    train_images: Sequence[np.ndarray], train_counts: ArrayLike, test_images: Sequence[np.ndarray]
) -> np.ndarray:
    """Ridge regression on the intensity histogram with 16 bins."""
    train, test = (
        np.array([_histogram(intensity) for intensity in images]).reshape(-1, N_BINS)
        for images in _intensity(train_images, test_images)
    )
    counts = np.asarray(train_counts, np.float64)
    mean, spread = train.mean(axis=0), train.std(axis=0)
    spread = np.where(spread > 0, spread, 1.0)
    return ridge((train - mean) / spread, counts, (test - mean) / spread)


def ridge(features: np.ndarray, counts: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Ridge regression; the penalty has the least leave-one-out error.

    Args:
      features: Features [N, d], each column with mean 0; the intercept is not penalised.
      counts: Counts [N].
      at: Features [M, d] at which to predict.

    Returns:
      Predictions [M].
    """
    u, s, vt = np.linalg.svd(features, full_matrices=False)
    centred = counts - counts.mean()
    best, chosen = np.inf, RIDGE_PENALTIES[-1]
    for penalty in RIDGE_PENALTIES:
        shrink = s**2 / (s**2 + penalty)
        fitted = u @ (shrink * (u.T @ centred))
        # A point's leverage gives its leave-one-out error in closed form.
        leverage = (u**2 @ shrink) + 1 / len(counts)
        error = np.square((centred - fitted) / np.maximum(1 - leverage, 1e-9)).sum()
        if error < best:
            best, chosen = error, penalty
    slope = vt.T @ (s / (s**2 + chosen) * (u.T @ centred))
    return counts.mean() + at @ slope


def _intensity(
    train_images: Sequence[np.ndarray], test_images: Sequence[np.ndarray]
) -> list[Iterator[np.ndarray]]:
    """Intensity [*space] of each image of both lists, on the scale of the training images."""
    scale = 255.0
    if any(image.dtype != np.uint8 for image in train_images):
        scale = max(1e-12, *(float(image.mean(axis=-1).max()) for image in train_images))
    return [
        (image.mean(axis=-1, dtype=np.float64) / scale for image in images)
        for images in (train_images, test_images)
    ]


def _histogram(intensity: np.ndarray) -> np.ndarray:
    """Number of pixels per bin between 0 and 1; values outside go to the outermost bins."""
    index = np.clip((intensity * N_BINS).astype(np.int64), 0, N_BINS - 1)
    return np.bincount(index.ravel(), minlength=N_BINS)
