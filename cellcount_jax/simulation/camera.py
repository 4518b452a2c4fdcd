"""Uneven illumination, camera noise and colour coding."""

from collections.abc import Sequence

import numpy as np


def illumination_field(
    rng: np.random.Generator, shape: Sequence[int], *, depth: float, variety: float
) -> np.ndarray:
    """A smooth field of mean 1 over the image: a dome, tilted and twisted at random.

    Args:
      rng: Source of randomness; five normal variates are drawn.
      shape: (H, W), pixels.
      depth: Drop from the mean to the minimum, fraction of the mean; at most 1.
      variety: Standard deviation of the tilts relative to the height of the dome.

    Returns:
      [H, W] float64, at least 1 - depth.
    """
    v, u = (2 * np.arange(n, dtype=np.float64) / max(n - 1, 1) - 1 for n in shape)
    dome_y, dome_x = 1 + 0.8 * variety * rng.standard_normal(2)
    tilt_y, tilt_x = variety * rng.standard_normal(2)
    twist = 1.2 * variety * float(rng.standard_normal())
    rows = tilt_y * v - dome_y * v**2
    columns = tilt_x * u - dome_x * u**2
    field = rows[:, None] + columns[None] + twist * v[:, None] * u[None]
    field -= field.mean()
    return 1 + depth * field / max(-field.min(), 1e-9)


def add_noise(
    rng: np.random.Generator, expected: np.ndarray, *, photons: float, read_noise: float
) -> np.ndarray:
    """Adds shot noise and read noise, both as normal variates.

    Args:
      rng: Source of randomness.
      expected: Brightness without noise, any shape.
      photons: Photons per unit of brightness; 0 for no shot noise.
      read_noise: Standard deviation, in the unit of `expected`.
    """
    variance = read_noise**2 + (np.maximum(expected, 0) / photons if photons else 0.0)
    return expected + np.sqrt(variance) * rng.standard_normal(expected.shape)


def add_chroma_subsampling(blue: np.ndarray) -> np.ndarray:
    """A blue image after a round trip through JPEG with chroma at half resolution (4:2:0).

    Blue is mostly chroma and little luma, so halving the chroma smooths it and leaves traces of
    the lost detail in red and green. The block transform is omitted.

    Args:
      blue: [H, W], grey levels 0 to 255.

    Returns:
      [H, W, 3] uint8, red, green, blue.

    Source: JPEG File Interchange Format 1.02 (colour transform); libjpeg's triangle upsampling.
    """
    blue = np.clip(np.rint(blue), 0, 255)
    luma = np.rint(0.114 * blue)
    half = _halve(blue)
    chroma_b = np.rint(_double(np.clip(np.rint(0.5 * half), -128, 127), blue.shape))
    chroma_r = np.rint(_double(np.rint(-0.081312 * half), blue.shape))
    red = luma + 1.402 * chroma_r
    green = luma - 0.344136 * chroma_b - 0.714136 * chroma_r
    rgb = np.stack([red, green, luma + 1.772 * chroma_b], axis=-1)
    return np.clip(np.rint(rgb), 0, 255).astype(np.uint8)


def _halve(a: np.ndarray) -> np.ndarray:
    a = np.pad(a, [(0, n % 2) for n in a.shape], mode="edge")
    return 0.25 * (a[::2, ::2] + a[1::2, ::2] + a[::2, 1::2] + a[1::2, 1::2])


def _double(a: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Upsamples by two: each sample weighs three quarters, its nearer neighbour one quarter."""
    for axis in (0, 1):
        a = np.moveaxis(a, axis, 0)
        above = np.concatenate([a[:1], a[:-1]])
        below = np.concatenate([a[1:], a[-1:]])
        twice = np.stack([0.75 * a + 0.25 * above, 0.75 * a + 0.25 * below], axis=1)
        a = np.moveaxis(twice.reshape(-1, *a.shape[1:])[: shape[axis]], 0, axis)
    return a
