"""Settings inferred from the training data: kernel, matching radius, scale and crop."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from scipy.spatial import cKDTree

from cellcount_jax.data.distance_transform import anisotropy
from cellcount_jax.data.resize import Scale
from cellcount_jax.data.sample import Sample

TARGET_SPACING = 16.0
"""Images whose cells are more than twice this distance apart, in pixels, are downscaled to it."""

CROP_MULTIPLE = 8
"""Sides of crops are multiples of it, as the U-Net requires."""

MAX_CROP = {2: 128, 3: 32}
"""Side of crops, in pixels, unless images are smaller, by number of space axes."""

VOLUME_SPACING = 10.0
"""Volumes whose cells are further apart, in voxels, are downscaled to this distance."""


@dataclasses.dataclass(frozen=True)
class InferredSettings:
    """Settings inferred from training images; lengths in pixels of the resized images.

    Attributes:
      scale: Factor by which images are resized first, one number or one per axis.
      spacing: Distance from a dot to its nearest neighbour, lower quartile over all dots.
      sigma: Sigma of the Gaussian target: an eighth of the spacing, 1 to 4 px.
      radius: Matching radius: half the spacing, 2 to 15 px.
      crop: Sides of training crops.
      channels: Number of channels of the images.
      mean_count: Mean number of dots per image.
    """

    scale: Scale
    spacing: float
    sigma: float
    radius: float
    crop: tuple[int, ...]
    channels: int
    mean_count: float

    def lines(self) -> list[str]:
        """The settings as lines of text."""
        return [
            f"images resized by {' x '.join(f'{s:.3g}' for s in np.ravel(self.scale))}",
            f"dots are {self.spacing:.1f} px apart (lower quartile of nearest neighbours)",
            f"sigma {self.sigma:.2f} px, matching radius {self.radius:.1f} px",
            f"crops {' x '.join(map(str, self.crop))}, {self.channels} channels",
            f"{self.mean_count:.1f} dots per image",
        ]


def infer_settings(samples: Sequence[Sample]) -> InferredSettings:
    """Infers settings from labelled training images.

    Raises:
      ValueError: Images differ in channels or number of axes, or no image has a dot.
    """
    shapes = {(s.image.ndim, s.image.shape[-1]) for s in samples}
    if len(shapes) > 1:
        listed = ", ".join(f"{s.name} {s.image.shape}" for s in samples[:3])
        raise ValueError(f"the images differ in channels or axes ({listed} ...); choose channels")
    spacing, ratio = nearest_spacing(samples), voxel_ratio(samples)
    if len(ratio) == 3:
        plane = min(1.0, VOLUME_SPACING / spacing)
        scale: Scale = tuple(float(round(plane * r, 4)) for r in ratio)
    else:
        plane = scale = 1.0 if spacing <= 2 * TARGET_SPACING else TARGET_SPACING / spacing
    spacing *= plane
    sides = np.array([s.image.shape[:-1] for s in samples]).min(axis=0) * scale
    sides[-2:] = sides[-2:].min()  # only squares can be rotated
    crop = np.clip(
        sides // CROP_MULTIPLE * CROP_MULTIPLE, CROP_MULTIPLE, MAX_CROP[len(ratio)]
    ).astype(int)
    return InferredSettings(
        scale=scale,
        spacing=spacing,
        sigma=float(np.clip(spacing / 8, 1.0, 4.0)),
        radius=float(np.clip(spacing / 2, 2.0, 15.0)),
        crop=tuple(crop.tolist()),
        channels=samples[0].image.shape[-1],
        mean_count=float(np.mean([s.count or 0 for s in samples])),
    )


def voxel_ratio(samples: Sequence[Sample]) -> tuple[float, ...]:
    """Median voxel size along each axis relative to the last; 1 if unknown."""
    ndim = next(s.dots.shape[1] for s in samples if s.dots is not None)
    known = [anisotropy(s.spacing, ndim) for s in samples if s.spacing]
    return tuple(np.median(known, axis=0).tolist()) if known and ndim == 3 else (1.0,) * ndim


def nearest_spacing(samples: Sequence[Sample]) -> float:
    """Lower quartile of the distances from dots to their nearest neighbours.

    In pixels; for volumes, in pixels of the last axis.

    Raises:
      ValueError: No image has a dot.
    """
    distances, ratio = [], voxel_ratio(samples)
    for sample in samples:
        dots = np.unique(sample.dots, axis=0) if sample.dots is not None else np.zeros((0, 2))
        if len(dots) > 1:
            distances.append(cKDTree(dots * ratio).query(dots * ratio, k=2)[0][:, 1])
    if distances:
        return float(np.quantile(np.concatenate(distances), 0.25))
    if not any(s.count for s in samples):
        raise ValueError("no image has a dot; there is nothing to learn from")
    # At most one cell per image: cells are about as far apart as the images are large.
    return float(min(min(s.image.shape[:-1]) for s in samples)) / 2
