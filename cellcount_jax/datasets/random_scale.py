"""Training images at random scales, for cells that other microscopes show larger or smaller."""

import dataclasses
from collections.abc import Iterator

import numpy as np

from cellcount_jax.data.resampling import Resampling
from cellcount_jax.data.resize import Scale, resized_shape
from cellcount_jax.data.sample import Sample
from cellcount_jax.datasets.load import SplitDataset, resampled
from cellcount_jax.datasets.normalise_diameter import cut_windows


def at_random_scales(
    dataset: SplitDataset,
    *,
    factor: Scale,
    jitter: float,
    copies: int,
    window: int,
    cell_diameter: float | None = None,
    seed: int,
) -> SplitDataset:
    """Resizes all images by a factor, and copies of the training images by others as well.

    Args:
      dataset: Labelled images or volumes.
      factor: Factor by which images are resized, in prediction too; one per axis for volumes.
      jitter: Copies of training images are resized by a further factor between `1 / jitter` and
        `jitter`, even on a logarithmic scale; the first of them by none.
      copies: Number of times that each training image is used.
      window: Longest side in pixels of the windows that resized images are cut into, so that
        images of all sizes fit into one array; volumes stay whole.
      cell_diameter: Mean cell diameter in pixels after resizing, if known: a diameter that is given
        at prediction is resized to it.
      seed: Seed of the random factors.
    """
    train = dataset.splits["train"]
    rng = np.random.default_rng(seed)
    exponents = rng.uniform(-1, 1, (len(train), copies))
    exponents[:, 0] = 0
    windows = [
        new
        for sample, row in zip(train, exponents, strict=True)
        for copy, exponent in enumerate(row)
        for new in _rescaled(sample, factor, jitter**exponent, copy=copy, window=window)
    ]
    others = {split: samples for split, samples in dataset.splits.items() if split != "train"}
    found = resampled(
        dataclasses.replace(dataset, splits=others),
        Resampling(factor=factor, trained_diameter=cell_diameter),
    )
    description = (
        f"{dataset.description}; {len(windows)} training windows of {copies} copies of each image "
        f"at random scales, 1/{jitter:g} to {jitter:g}"
    )
    splits = {"train": windows, **found.splits}
    return dataclasses.replace(found, splits=splits, description=description)


def _rescaled(
    sample: Sample, factor: Scale, extra: float, *, copy: int, window: int
) -> Iterator[Sample]:
    """A sample resized by both factors, or its windows; its pixel size is that without `extra`."""
    bare = dataclasses.replace(sample, labels=None)
    sides = sample.image.shape[:-1]
    scales = np.broadcast_to(np.multiply(factor, extra), sample.image.ndim - 1)
    (resized,) = Resampling(tuple(scales.tolist())).apply(bare)
    spacing = sample.spacing
    if spacing is not None:
        nominal = resized_shape(sides, factor)
        spacing = tuple(u * a / b for u, a, b in zip(spacing, sides, nominal, strict=True))
    named = dataclasses.replace(resized, name=f"{sample.name}~{copy}", spacing=spacing)
    if sample.image.ndim == 3:
        yield from cut_windows(named, window)
    else:
        yield named
