"""Settings inferred from the training data: kernel, matching radius, scale and crop."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from scipy.spatial import cKDTree

from cellcount_jax.data.sample import Sample

TARGET_SPACING = 16.0
"""Images whose cells are more than twice this far apart, in pixels, are downscaled to it."""

CROP_MULTIPLE = 8
"""Sides of crops are multiples of it, as the U-Net requires."""

MAX_CROP = 128
"""Side of crops, in pixels, unless images are smaller."""


@dataclasses.dataclass(frozen=True)
class InferredSettings:
    """Settings inferred from training images; lengths in pixels of the resized images.

    Attributes:
      scale: factor by which images are resized first.
      spacing: distance from a dot to its nearest neighbour, lower quartile over all dots.
      sigma: of the Gaussian target: an eighth of the spacing, 1 to 4 px.
      radius: matching radius: half the spacing, 2 to 15 px.
      crop: sides of training crops.
      normalise: method of `Preprocessing`.
      channels: of the images.
      mean_count: dots per image.
    """

    scale: float
    spacing: float
    sigma: float
    radius: float
    crop: tuple[int, ...]
    normalise: str
    channels: int
    mean_count: float

    def lines(self) -> list[str]:
        """For people."""
        return [
            f"images resized by {self.scale:.3g}",
            f"dots are {self.spacing:.1f} px apart (lower quartile of nearest neighbours)",
            f"sigma {self.sigma:.2f} px, matching radius {self.radius:.1f} px",
            f"crops {' x '.join(map(str, self.crop))}, {self.channels} channels, normalised by "
            f"{self.normalise}",
            f"{self.mean_count:.1f} dots per image",
        ]


def infer_settings(samples: Sequence[Sample]) -> InferredSettings:
    """Infers settings from labelled training images.

    Raises:
      ValueError: images differ in channels or number of axes, or no image has a dot.
    """
    shapes = {(s.image.ndim, s.image.shape[-1]) for s in samples}
    if len(shapes) > 1:
        listed = ", ".join(f"{s.name} {s.image.shape}" for s in samples[:3])
        raise ValueError(f"the images differ in channels or axes ({listed} ...); choose channels")
    spacing = nearest_spacing(samples)
    scale = 1.0 if spacing <= 2 * TARGET_SPACING else TARGET_SPACING / spacing
    spacing *= scale
    sides = np.array([s.image.shape[:-1] for s in samples]).min(axis=0) * scale
    sides[-2:] = sides[-2:].min()  # Only squares can be rotated.
    crop = np.clip(sides // CROP_MULTIPLE * CROP_MULTIPLE, CROP_MULTIPLE, MAX_CROP).astype(int)
    dtypes = {s.image.dtype for s in samples}
    # 8-bit images usually fill their range; 16-bit and float images rarely do.
    normalise = "dtype" if dtypes == {np.dtype(np.uint8)} else "percentile"
    return InferredSettings(
        scale=scale,
        spacing=spacing,
        sigma=float(np.clip(spacing / 8, 1.0, 4.0)),
        radius=float(np.clip(spacing / 2, 2.0, 15.0)),
        crop=tuple(crop.tolist()),
        normalise=normalise,
        channels=samples[0].image.shape[-1],
        mean_count=float(np.mean([s.count or 0 for s in samples])),
    )


def nearest_spacing(samples: Sequence[Sample]) -> float:
    """Lower quartile of the distances from dots to their nearest neighbours, in pixels.

    Raises:
      ValueError: no image has a dot.
    """
    distances = []
    for sample in samples:
        dots = np.unique(sample.dots, axis=0) if sample.dots is not None else np.zeros((0, 2))
        if len(dots) > 1:
            distances.append(cKDTree(dots).query(dots, k=2)[0][:, 1])
    if distances:
        return float(np.quantile(np.concatenate(distances), 0.25))
    if not any(s.count for s in samples):
        raise ValueError("no image has a dot; there is nothing to learn from")
    # At most one cell per image: cells are about as far apart as the images are large.
    return float(min(min(s.image.shape[:-1]) for s in samples)) / 2
