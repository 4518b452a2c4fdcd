"""2-D fluorescence images in the style of SIMCEP (Lehmussola et al., IEEE TMI 2007)."""

from collections.abc import Sequence

import numpy as np

from cellcount_jax.simulation import camera, placement, render_cells
from cellcount_jax.simulation.presets import Fluorescence2D

_TEXTURE_SIDE = 64
_CHUNK_SIZE = 512  # cells blurred at once, so that memory does not grow with their number
_HARMONICS = np.arange(2, 6)


def simulate_fluorescence(
    rng: np.random.Generator,
    shape: Sequence[int],
    count: int,
    preset: Fluorescence2D,
    *,
    labelled: bool,
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """One image.

    Args:
      rng: Source of randomness.
      shape: (H, W), pixels.
      count: Number of cells.
      preset: Parameters of the image.
      labelled: Whether to make the instance mask.

    Returns:
      Image [H, W, 3] uint8, centres [count, 2] float64 (y, x), labels [H, W] int32 or None.
    """
    centres = _place_cells(rng, shape, count, preset)
    corner, relative, radius = _outlines(rng, centres, preset)
    cover = np.clip((1 - relative) * radius + 0.5, 0, 1)
    index, inside = render_cells.pixel_index(corner, cover.shape[1:], shape)
    labels, seen = render_cells.occlude(shape, index, inside, cover)
    sharp = _sharp_cells(rng, seen, preset)
    low, high = preset.blur
    sigma = low + (high - low) * rng.random(count)
    if preset.shared_focus:
        sigma = sigma[render_cells.touching_groups(shape, index, inside, cover)]
    cells = np.zeros(shape)
    for first in range(0, count, _CHUNK_SIZE):
        part = slice(first, first + _CHUNK_SIZE)
        _add_out_of_focus(cells, corner[part], sharp[part], sigma[part])
    return _image(rng, cells, preset), centres, labels if labelled else None


def _place_cells(
    rng: np.random.Generator, shape: Sequence[int], count: int, preset: Fluorescence2D
) -> np.ndarray:
    propose = placement.density_waves(
        rng, shape, crowding=preset.crowding, centring=preset.centring
    )
    if preset.clustered:
        size, spread = preset.cluster_size, preset.cluster_spread
        n = round(preset.clustered * count)
        clustered = placement.cluster_positions(rng, shape, n, size=size, spread=spread)
        propose = placement.mixture(clustered, propose, preset.clustered)
    distance = 2 * preset.radius * (1 - preset.overlap)
    return placement.place_cells(rng, propose, count, shape, min_distance=(distance, distance))


def _outlines(
    rng: np.random.Generator, centres: np.ndarray, preset: Fluorescence2D
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Each cell's outline: a circle deformed by a few random angular harmonics.

    Returns:
      Corner [N, 2] of the cells' boxes; distance from the centre divided by the outline's radius
      in that direction, [N, k, k]; that radius, [N, k, k] pixels.
    """
    n = len(centres)
    largest = preset.radius + 3 * preset.radius_spread
    half = int(np.ceil(largest * (1 + 3 * preset.roughness))) + 1
    corner, (dy, dx) = render_cells.offsets(centres, (half, half))
    size = preset.radius + preset.radius_spread * np.clip(rng.standard_normal(n), -3, 3)
    size = np.maximum(size, 0.2 * preset.radius)
    # amplitudes fall with the order, so that outlines are smooth
    scale = preset.roughness * np.sqrt(2 / len(_HARMONICS)) * 2 / _HARMONICS
    cosine, sine = scale * rng.standard_normal((2, n, len(_HARMONICS)))
    distance = np.hypot(dy, dx)
    # powers of a unit complex number give every cos(k angle) and sin(k angle)
    unit = (dx + 1j * dy) / np.maximum(distance, 1e-9)
    wave = np.zeros(distance.shape)
    power = unit
    for k in range(len(_HARMONICS)):
        power = power * unit
        wave += cosine[:, k, None, None] * power.real + sine[:, k, None, None] * power.imag
    radius = size[:, None, None] * np.maximum(1 + wave, 0.2)
    return corner, distance / radius, radius


def _sharp_cells(rng: np.random.Generator, seen: np.ndarray, preset: Fluorescence2D) -> np.ndarray:
    """Cells in focus, [N, k, k] grey levels, from the visible fraction of each pixel."""
    n, k = seen.shape[:2]
    spread = 1 + preset.brightness_spread * rng.standard_normal(n)
    brightness = preset.brightness * np.maximum(spread, 0.1)
    if preset.texture:
        scale = (preset.texture_scale,) * 2
        sheet = render_cells.random_texture(rng, _TEXTURE_SIDE, 2, scale=scale)
        at = (rng.random((2, n)) * _TEXTURE_SIDE).astype(np.int64)
        y, x = ((a[:, None] + np.arange(k)) % _TEXTURE_SIDE for a in at)
        texture = sheet[y[:, :, None], x[:, None, :]]
        seen = seen * np.maximum(1 + preset.texture * texture, 0)
    return brightness[:, None, None] * seen


def _add_out_of_focus(
    image: np.ndarray, corner: np.ndarray, sharp: np.ndarray, sigma: np.ndarray
) -> None:
    """Adds cells to the image, each blurred by its own Gaussian; total intensity is kept.

    Args:
      image: [H, W], changed in place.
      corner: [N, 2] int64, first pixel of each cell's box.
      sharp: [N, k, k], the cells in focus.
      sigma: [N] pixels.
    """
    pad = int(np.ceil(3 * sigma.max()))
    k = sharp.shape[1] + 2 * pad
    f = np.fft.fftfreq(k)[:, None] ** 2 + np.fft.rfftfreq(k)[None] ** 2
    gain = np.exp(-2 * np.pi**2 * sigma[:, None, None] ** 2 * f)
    wide = np.pad(sharp, [(0, 0), (pad, pad), (pad, pad)])
    blurred = np.fft.irfft2(np.fft.rfft2(wide) * gain, s=(k, k))
    index, inside = render_cells.pixel_index(corner - pad, (k, k), image.shape)
    render_cells.add_boxes(image, index, inside, blurred)


def _image(rng: np.random.Generator, cells: np.ndarray, preset: Fluorescence2D) -> np.ndarray:
    """Adds background, camera noise and colour."""
    field = camera.illumination_field(
        rng, cells.shape, depth=preset.illumination, variety=preset.illumination_variety
    )
    level = preset.background + preset.haze * cells.mean()
    blue = camera.add_noise(
        rng, cells + level * field, photons=preset.photons, read_noise=preset.read_noise
    )
    if preset.chroma_subsampling:
        return camera.add_chroma_subsampling(blue)
    image = np.zeros((*blue.shape, 3), np.uint8)
    image[..., 2] = np.clip(np.rint(blue), 0, 255)
    return image
