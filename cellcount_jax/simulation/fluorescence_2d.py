"""A 2-D fluorescence image, in the manner of SIMCEP (Lehmussola et al., IEEE TMI 2007)."""

from collections.abc import Sequence

import numpy as np

from cellcount_jax.simulation import camera, placement, render_cells
from cellcount_jax.simulation.presets import Fluorescence2D

_TEXTURE_SIDE = 64
_CHUNK = 512  # stamps blurred at once, so that memory does not grow with the number of cells
_ORDERS = np.arange(2, 6)


def simulate_fluorescence(
    rng: np.random.Generator, shape: Sequence[int], count: int, preset: Fluorescence2D, *, labelled: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """One image.

    Args:
      rng: source of randomness.
      shape: (H, W), pixels.
      count: number of cells.
      preset: knobs.
      labelled: whether to make the instance mask.

    Returns:
      image [H, W, 3] uint8, centres [count, 2] float64 (y, x), labels [H, W] int32 or None.
    """
    centres = _place(rng, shape, count, preset)
    corner, relative, radius = _outlines(rng, centres, preset)
    cover = np.clip((1 - relative) * radius + 0.5, 0, 1)
    index, inside = render_cells.pixel_index(corner, cover.shape[1:], shape)
    labels, seen = render_cells.hide(shape, index, inside, cover)
    sharp = _sharp_cells(rng, seen, preset)
    low, high = preset.blur
    sigma = low + (high - low) * rng.random(count)
    if preset.shared_focus:
        sigma = sigma[render_cells.touching_groups(shape, index, inside, cover)]
    cells = np.zeros(shape)
    for first in range(0, count, _CHUNK):
        part = slice(first, first + _CHUNK)
        _add_out_of_focus(cells, corner[part], sharp[part], sigma[part])
    return _image(rng, cells, preset), centres, labels if labelled else None


def _place(rng: np.random.Generator, shape: Sequence[int], count: int, preset: Fluorescence2D) -> np.ndarray:
    propose = placement.crowds(rng, shape, crowding=preset.crowding, centring=preset.centring)
    if preset.clustered:
        size, spread = preset.cluster_size, preset.cluster_spread
        n = round(preset.clustered * count)
        close = placement.clusters(rng, shape, n, size=size, spread=spread)
        propose = placement.mixture(close, propose, preset.clustered)
    apart = 2 * preset.radius * (1 - preset.overlap)
    return placement.place(rng, propose, count, shape, min_distance=(apart, apart))


def _outlines(
    rng: np.random.Generator, centres: np.ndarray, preset: Fluorescence2D
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Each cell's outline as a random polar polynomial about a circle.

    Returns:
      corner [N, 2] of the stamps; distance from the centre over the outline's radius in the same
      direction, [N, k, k]; that radius [N, k, k] in pixels.
    """
    n = len(centres)
    largest = preset.radius + 3 * preset.radius_spread
    half = int(np.ceil(largest * (1 + 3 * preset.roughness))) + 1
    corner, (dy, dx) = render_cells.offsets(centres, (half, half))
    size = preset.radius + preset.radius_spread * np.clip(rng.standard_normal(n), -3, 3)
    size = np.maximum(size, 0.2 * preset.radius)
    # amplitudes fall with the order, so that outlines are smooth
    scale = preset.roughness * np.sqrt(2 / len(_ORDERS)) * 2 / _ORDERS
    cosine, sine = scale * rng.standard_normal((2, n, len(_ORDERS)))
    distance = np.hypot(dy, dx)
    # powers of the unit complex number give all cos(k angle) and sin(k angle) without trigonometry
    turn = (dx + 1j * dy) / np.maximum(distance, 1e-9)
    wave = np.zeros(distance.shape)
    power = turn
    for k in range(len(_ORDERS)):
        power = power * turn
        wave += cosine[:, k, None, None] * power.real + sine[:, k, None, None] * power.imag
    radius = size[:, None, None] * np.maximum(1 + wave, 0.2)
    return corner, distance / radius, radius


def _sharp_cells(rng: np.random.Generator, seen: np.ndarray, preset: Fluorescence2D) -> np.ndarray:
    """Cells in focus, [N, k, k] grey levels, from the part of each pixel where they are seen."""
    n, k = seen.shape[:2]
    spread = 1 + preset.brightness_spread * rng.standard_normal(n)
    bright = preset.brightness * np.maximum(spread, 0.1)
    if preset.texture:
        scale = (preset.texture_scale,) * 2
        sheet = render_cells.grain(rng, _TEXTURE_SIDE, 2, scale=scale)
        at = (rng.random((2, n)) * _TEXTURE_SIDE).astype(np.int64)
        y, x = ((a[:, None] + np.arange(k)) % _TEXTURE_SIDE for a in at)
        texture = sheet[y[:, :, None], x[:, None, :]]
        seen = seen * np.maximum(1 + preset.texture * texture, 0)
    return bright[:, None, None] * seen


def _add_out_of_focus(
    image: np.ndarray, corner: np.ndarray, sharp: np.ndarray, sigma: np.ndarray
) -> None:
    """Adds cells to the image, each blurred by a Gaussian of its own; no light is lost.

    Args:
      image: [H, W], changed in place.
      corner: [N, 2] int64, where the stamps begin.
      sharp: [N, k, k] the stamps in focus.
      sigma: [N] pixels.
    """
    pad = int(np.ceil(3 * sigma.max()))
    k = sharp.shape[1] + 2 * pad
    f = np.fft.fftfreq(k)[:, None] ** 2 + np.fft.rfftfreq(k)[None] ** 2
    gain = np.exp(-2 * np.pi**2 * sigma[:, None, None] ** 2 * f)
    wide = np.pad(sharp, [(0, 0), (pad, pad), (pad, pad)])
    blurred = np.fft.irfft2(np.fft.rfft2(wide) * gain, s=(k, k))
    index, inside = render_cells.pixel_index(corner - pad, (k, k), image.shape)
    render_cells.add(image, index, inside, blurred)


def _image(rng: np.random.Generator, cells: np.ndarray, preset: Fluorescence2D) -> np.ndarray:
    """Adds the background, the camera's noise and the colour."""
    surface = camera.uneven_light(
        rng, cells.shape, depth=preset.illumination, variety=preset.illumination_variety
    )
    level = preset.background + preset.haze * cells.mean()
    blue = camera.camera(
        rng, cells + level * surface, photons=preset.photons, read_noise=preset.read_noise
    )
    if preset.chroma_subsampling:
        return camera.jpeg_colour(blue)
    image = np.zeros((*blue.shape, 3), np.uint8)
    image[..., 2] = np.clip(np.rint(blue), 0, 255)
    return image
