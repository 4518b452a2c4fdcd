"""A 3-D light-sheet volume of nuclei."""

from collections.abc import Iterator, Sequence

import numpy as np

from cellcount_jax.simulation import camera, placement, render_cells
from cellcount_jax.simulation.presets import LightSheet3D

_TEXTURE_SIDE = 32
_CHUNK = 256  # stamps rendered at once, so that memory does not grow with the number of nuclei


def simulate_light_sheet(
    rng: np.random.Generator, shape: Sequence[int], count: int, preset: LightSheet3D, *, labelled: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """One volume.

    Args:
      rng: source of randomness.
      shape: (D, H, W), voxels.
      count: number of nuclei.
      preset: knobs.
      labelled: whether to make the instance mask.

    Returns:
      image [D, H, W, 1] uint16, centres [count, 3] float64 (z, y, x), labels [D, H, W] int32 or
      None.
    """
    propose = placement.crowds(rng, shape, crowding=preset.crowding, centring=0.0)
    apart = [2 * r * preset.min_distance for r in preset.radius]
    centres = placement.place(rng, propose, count, shape, min_distance=apart)
    nuclei = np.zeros(shape)
    found = []
    for first, corner, distance, light_of_each in _stamps(rng, centres, preset):
        index, inside = render_cells.pixel_index(corner, distance.shape[1:], shape)
        render_cells.add(nuclei, index, inside, light_of_each)
        if labelled:
            found.append(render_cells.bodies(index, inside, distance, first=first + 1))
    labels = None
    if labelled:
        parts = [np.concatenate(p) for p in zip(*found, strict=True)] if found else []
        labels = render_cells.paint_labels(shape, *parts) if parts else np.zeros(shape, np.int32)
    return _seen(rng, nuclei, preset), centres, labels


def _stamps(
    rng: np.random.Generator, centres: np.ndarray, preset: LightSheet3D
) -> Iterator[tuple[int, np.ndarray, np.ndarray, np.ndarray]]:
    """Nuclei as stamps, a chunk at a time: first number, corner, distance in radii, brightness."""
    sheet = render_cells.grain(rng, _TEXTURE_SIDE, 3, scale=_texture_scale(preset))
    for first in range(0, len(centres), _CHUNK):
        some = centres[first : first + _CHUNK]
        corner, distance, cover = _ellipsoids(rng, some, preset)
        spread = 1 + preset.brightness_spread * rng.standard_normal(len(some))
        bright = preset.brightness * np.maximum(spread, 0.1)
        at = (rng.random((3, len(some))) * _TEXTURE_SIDE).astype(np.int64)
        z, y, x = (
            (a[:, None] + np.arange(k)) % _TEXTURE_SIDE
            for a, k in zip(at, distance.shape[1:], strict=True)
        )
        texture = sheet[z[:, :, None, None], y[:, None, :, None], x[:, None, None, :]]
        cover = cover * np.maximum(1 + preset.texture * texture, 0)
        yield first, corner, distance, bright[:, None, None, None] * cover


def _texture_scale(preset: LightSheet3D) -> list[float]:
    """The texture is as coarse along z as the nuclei are flat."""
    return [preset.texture_scale * r / preset.radius[-1] for r in preset.radius]


def _ellipsoids(
    rng: np.random.Generator, centres: np.ndarray, preset: LightSheet3D
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Randomly stretched and turned ellipsoids.

    Returns:
      corner [N, 3]; distance from the centre in radii of the ellipsoid, [N, kz, ky, kx]; part of
      each voxel that the ellipsoid covers, [N, kz, ky, kx].
    """
    n = len(centres)
    size = 1 + preset.radius_spread * np.clip(rng.standard_normal(n), -3, 3)
    largest = 1 + 3 * preset.radius_spread + 2 * preset.elongation
    half = [int(np.ceil(r * largest)) + 1 for r in preset.radius]
    corner, distance = render_cells.offsets(centres, half)
    p = [d / r for d, r in zip(distance, preset.radius, strict=True)]
    form = _stretch(rng, n, preset.elongation) / np.maximum(size, 0.3)[:, None, None] ** 2
    square = sum(
        (1 if i == j else 2) * form[:, i, j, None, None, None] * (p[i] * p[j])
        for i in range(3)
        for j in range(i, 3)
    )
    relative = np.sqrt(np.asarray(square))
    # how much the relative distance grows over one voxel across the surface
    steep = sum((a / r) ** 2 for a, r in zip(p, preset.radius, strict=True))
    plain = sum(a**2 for a in p)
    width = np.sqrt(np.asarray(steep) / np.maximum(np.asarray(plain), 1e-9))
    width = np.maximum(width / np.maximum(size, 0.3)[:, None, None, None], 1e-9)
    return corner, relative, np.clip((1 - relative) / width + 0.5, 0, 1)


def _stretch(rng: np.random.Generator, n: int, elongation: float) -> np.ndarray:
    """Quadratic forms [n, 3, 3] near the identity whose axes point anywhere.

    exp(-2 S) to second order for a random symmetric S, which is positive for every S.
    """
    a = elongation * rng.standard_normal((n, 3, 3))
    s = (a + a.swapaxes(1, 2)) / 2
    # written out instead of a matrix product, whose rounding depends on the library
    square = (s[:, :, :, None] * s[:, None, :, :]).sum(axis=2)
    return np.eye(3) - 2 * s + 2 * square


def _seen(rng: np.random.Generator, nuclei: np.ndarray, preset: LightSheet3D) -> np.ndarray:
    """What the microscope makes of the nuclei, [D, H, W, 1] uint16."""
    depth = preset.reference_shape[0]
    mean = nuclei.mean()
    seen = _blur(nuclei, preset.psf)
    seen += preset.haze * mean
    z = np.arange(len(nuclei), dtype=np.float64)
    seen *= ((1 - preset.attenuation) ** (z / max(depth - 1, 1)))[:, None, None]
    surface = camera.uneven_light(
        rng, nuclei.shape[1:], depth=preset.illumination, variety=preset.illumination_variety
    )
    seen *= surface
    seen += preset.background
    seen = camera.camera(rng, seen, photons=preset.photons, read_noise=preset.read_noise)
    return np.clip(np.rint(seen), 0, 65535).astype(np.uint16)[..., None]


def _blur(a: np.ndarray, sigma: Sequence[float]) -> np.ndarray:
    """Separable Gaussian blur; the image goes on beyond its edges as it ends."""
    for axis, s in enumerate(sigma):
        if s <= 0:
            continue
        reach = max(1, int(np.ceil(3 * s)))
        weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / s) ** 2)
        weights /= weights.sum()
        pad = [(0, 0)] * a.ndim
        pad[axis] = (reach, reach)
        wide = np.pad(a, pad, mode="edge")
        n = a.shape[axis]
        out = weights[reach] * a
        for k in range(reach):
            lower = wide[(slice(None),) * axis + (slice(k, k + n),)]
            upper = wide[(slice(None),) * axis + (slice(2 * reach - k, 2 * reach - k + n),)]
            out += weights[k] * (lower + upper)
        a = out
    return a
