"""3-D light-sheet volumes of nuclei."""

from collections.abc import Iterator, Sequence

import numpy as np

from cellcount_jax.simulation import camera, placement, render_cells
from cellcount_jax.simulation.presets import LightSheet3D

_TEXTURE_SIDE = 32
_CHUNK_SIZE = 256  # nuclei rendered at once, so that memory does not grow with their number


def simulate_light_sheet(
    rng: np.random.Generator,
    shape: Sequence[int],
    count: int,
    preset: LightSheet3D,
    *,
    labelled: bool,
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """One volume.

    Args:
      rng: Source of randomness.
      shape: (D, H, W), voxels.
      count: Number of nuclei.
      preset: Parameters of the volume.
      labelled: Whether to make the instance mask.

    Returns:
      Image [D, H, W, 1] uint16, centres [count, 3] float64 (z, y, x), labels [D, H, W] int32 or
      None.
    """
    propose = placement.density_waves(rng, shape, crowding=preset.crowding, centring=0.0)
    min_distance = [2 * r * preset.min_distance for r in preset.radius]
    centres = placement.place_cells(rng, propose, count, shape, min_distance=min_distance)
    nuclei = np.zeros(shape)
    found = []
    for first, corner, distance, intensity in _nuclei(rng, centres, preset):
        index, inside = render_cells.pixel_index(corner, distance.shape[1:], shape)
        render_cells.add_boxes(nuclei, index, inside, intensity)
        if labelled:
            found.append(render_cells.cell_pixels(index, inside, distance, first=first + 1))
    labels = None
    if labelled:
        parts = [np.concatenate(p) for p in zip(*found, strict=True)] if found else []
        labels = render_cells.paint_labels(shape, *parts) if parts else np.zeros(shape, np.int32)
    return _image(rng, nuclei, preset), centres, labels


def _nuclei(
    rng: np.random.Generator, centres: np.ndarray, preset: LightSheet3D
) -> Iterator[tuple[int, np.ndarray, np.ndarray, np.ndarray]]:
    """Nuclei by chunks: number of the first, corners of boxes, distance in radii, intensity."""
    sheet = render_cells.random_texture(rng, _TEXTURE_SIDE, 3, scale=_texture_scale(preset))
    for first in range(0, len(centres), _CHUNK_SIZE):
        some = centres[first : first + _CHUNK_SIZE]
        corner, distance, cover = _ellipsoids(rng, some, preset)
        spread = 1 + preset.brightness_spread * rng.standard_normal(len(some))
        brightness = preset.brightness * np.maximum(spread, 0.1)
        at = (rng.random((3, len(some))) * _TEXTURE_SIDE).astype(np.int64)
        z, y, x = (
            (a[:, None] + np.arange(k)) % _TEXTURE_SIDE
            for a, k in zip(at, distance.shape[1:], strict=True)
        )
        texture = sheet[z[:, :, None, None], y[:, None, :, None], x[:, None, None, :]]
        cover = cover * np.maximum(1 + preset.texture * texture, 0)
        yield first, corner, distance, brightness[:, None, None, None] * cover


def _texture_scale(preset: LightSheet3D) -> list[float]:
    """The texture is stretched per axis as the nuclei are."""
    return [preset.texture_scale * r / preset.radius[-1] for r in preset.radius]


def _ellipsoids(
    rng: np.random.Generator, centres: np.ndarray, preset: LightSheet3D
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Randomly stretched and rotated ellipsoids.

    Returns:
      Corner [N, 3] of the boxes; distance from the centre in radii of the ellipsoid,
      [N, kz, ky, kx]; fraction of each voxel that the ellipsoid covers, [N, kz, ky, kx].
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
    # increase of the relative distance over one voxel across the surface
    steep = sum((a / r) ** 2 for a, r in zip(p, preset.radius, strict=True))
    plain = sum(a**2 for a in p)
    width = np.sqrt(np.asarray(steep) / np.maximum(np.asarray(plain), 1e-9))
    width = np.maximum(width / np.maximum(size, 0.3)[:, None, None, None], 1e-9)
    return corner, relative, np.clip((1 - relative) / width + 0.5, 0, 1)


def _stretch(rng: np.random.Generator, n: int, elongation: float) -> np.ndarray:
    """Quadratic forms [n, 3, 3] near the identity with random axes.

    exp(-2 S) to second order for a random symmetric S, which is positive definite for every S.
    """
    a = elongation * rng.standard_normal((n, 3, 3))
    s = (a + a.swapaxes(1, 2)) / 2
    # not a matrix product, whose rounding depends on the library
    square = (s[:, :, :, None] * s[:, None, :, :]).sum(axis=2)
    return np.eye(3) - 2 * s + 2 * square


def _image(rng: np.random.Generator, nuclei: np.ndarray, preset: LightSheet3D) -> np.ndarray:
    """The nuclei as the microscope records them, [D, H, W, 1] uint16."""
    haze = preset.haze * nuclei.mean()
    image = nuclei
    for axis, sigma in enumerate(preset.psf):
        if sigma > 0:
            image = _blur(image, sigma, axis=axis)
    image = image + haze
    depth = preset.reference_shape[0]
    z = np.arange(len(nuclei), dtype=np.float64)
    image *= ((1 - preset.attenuation) ** (z / max(depth - 1, 1)))[:, None, None]
    image *= camera.illumination_field(
        rng, nuclei.shape[1:], depth=preset.illumination, variety=preset.illumination_variety
    )
    image += preset.background
    image = camera.add_noise(rng, image, photons=preset.photons, read_noise=preset.read_noise)
    return np.clip(np.rint(image), 0, 65535).astype(np.uint16)[..., None]


def _blur(image: np.ndarray, sigma: float, *, axis: int) -> np.ndarray:
    """Gaussian blur along one axis; edge values continue beyond the border."""
    from scipy import ndimage  # takes a third of a second to import, and only volumes need it

    reach = max(1, int(np.ceil(3 * sigma)))
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    return ndimage.correlate1d(image, weights / weights.sum(), axis=axis, mode="nearest")
