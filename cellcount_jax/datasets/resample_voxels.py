"""Volumes brought to one size of voxels before anything is learned from them."""

import dataclasses
from collections.abc import Sequence

from cellcount_jax.data import patches
from cellcount_jax.data.pixel_size import scale_between
from cellcount_jax.data.sample import Sample
from cellcount_jax.datasets.load import SplitDataset


def with_voxel_size(source: SplitDataset, voxel_size: Sequence[float]) -> SplitDataset:
    """A source whose volumes are resized, with their dots and masks.

    Nuclei that are many pixels wide cost a 3-D network much and tell it little; a counter resizes
    new volumes in the same way, since it records the size (see `Counter.scale_of`).

    Args:
      source: volumes with known spacing.
      voxel_size: (z, y, x) micrometres.

    Raises:
      ValueError: a volume has no spacing, or one that is far from `voxel_size`.
    """
    splits = {part: [_resized(s, voxel_size) for s in rows] for part, rows in source.splits.items()}
    return dataclasses.replace(source, splits=splits)


def _resized(sample: Sample, voxel_size: Sequence[float]) -> Sample:
    if sample.spacing is None or len(sample.spacing) != len(voxel_size):
        raise ValueError(
            f"{sample.name}: its voxel size is not known, so config.data.voxel_size cannot be used"
        )
    scale = scale_between(sample.spacing, voxel_size)
    resized = patches.resize_sample(sample, patches.resized_shape(sample.image.shape[:-1], scale))
    # Sides are whole pixels, so sizes differ a little from volume to volume; they count as one.
    return dataclasses.replace(resized, spacing=tuple(float(size) for size in voxel_size))
