"""Which bundled model fits a folder of images, by a look at some of them.

The limits were set while looking at the images of the datasets that docs/models.md names.
"""

import collections
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cellcount_jax.inference.bundled import DEFAULT_MODEL
from cellcount_jax.io.images.base import ImageError
from cellcount_jax.io.images.image import LazyImage, open_lazy
from cellcount_jax.prediction.options import Options
from cellcount_jax.prediction.parts import parts_of
from cellcount_jax.runtime.path_text import path_text

log = logging.getLogger(__name__)

N_IMAGES = 9
"""Number of images that are looked at."""

SIDE = 768
"""Side in pixels of the central part of an image that is looked at."""

MAJORITY = 2 / 3
"""Share of these images that must be of one kind."""

MAX_DARK_MEDIAN, MAX_DARK_ASYMMETRY = 0.45, 1.0
"""Cells are brighter than the background up to these values of `Look`."""

PHASE_MODE, PHASE_ASYMMETRY = 0.28, 0.45
"""In grey images with bright structures, the background of phase contrast is above both."""

MIN_STAIN, TISSUE_STAIN = 0.05, 0.3
"""Colourfulness of the most colourful pixels: of any stain, and of a stained section."""

MAX_SMEAR_MEDIAN = 0.86
"""Above it, an image is mostly empty: not a smear in which cells can be told from other things."""

BLOCK, MIN_STRUCTURE = 4, 0.5
"""Noise alone falls to a quarter of its standard deviation when blocks of this side are averaged;
an image that falls below this share shows nothing."""

FITS = {
    "fluorescence": ("nuclei", "bright cells on a dark background (fluorescence)"),
    "volume": ("nuclei3d", "volumes (fluorescence)"),
    "section": ("tissue", "strong colours on a bright background (stained tissue)"),
    "smear": ("blood", "weak colours on a bright background (blood smears)"),
    "phase": ("phase", "grey, darker and brighter than the background (phase contrast)"),
}
"""Kind of image -> bundled model, and what the kind looks like."""


class Look(NamedTuple):
    """What an image looks like, whatever its data type, offset and gain.

    Attributes:
      mode: Commonest intensity, 0 to 1 between the 0.5th and 99.8th percentile.
      median: Median intensity on the same scale.
      asymmetry: Spread of intensities below the mode, as a ratio to the spread above.
      stain: Difference of the strongest and weakest colour, 99th percentile over pixels, as a
        share of the brightest value; 0 for grey images.
    """

    mode: float
    median: float
    asymmetry: float
    stain: float


def choose_model(paths: Sequence[Path], options: Options) -> tuple[str, str]:
    """The bundled model for images, and why.

    Args:
      paths: Image files; up to `N_IMAGES` of them, evenly spaced, are looked at.
      options: Options of the call.

    Raises:
      ValueError: No bundled model fits, or the images are of several kinds; the message says what
        to do.
    """
    rows = np.unique(np.linspace(0, len(paths) - 1, N_IMAGES).round().astype(int))
    seen = [(path, kind) for path in (paths[i] for i in rows) if (kind := kind_of(path, options))]
    if not seen:  # the table will say why
        return DEFAULT_MODEL, "images that cannot be read or show noise alone"
    counts = collections.Counter(kind for _, kind in seen)
    kind, number = counts.most_common(1)[0]
    if number < MAJORITY * len(seen):
        examples = {k: path_text(p) for p, k in reversed(seen)}
        found = "; ".join(f"{_words(k)} ({path})" for k, path in sorted(examples.items()))
        raise ValueError(
            f"the images are of several kinds: {found}; count each kind with a call of its own, "
            "or name the model with --model"
        )
    if kind not in FITS:
        raise ValueError(
            f"no bundled model fits these images ({_words(kind)}): mark the cells of ten of them "
            "and train a counter (cellcount train FOLDER), or name the model with --model"
        )
    of = "" if number == len(seen) else f" in {number} of {len(seen)} images looked at"
    return FITS[kind][0], f"{_words(kind)}{of}"


def kind_of(path: Path, options: Options) -> str | None:
    """Kind of a file, by the middle one of several images in it.

    Returns:
      A key of `FITS`, or what else it looks like; None if it cannot be read or shows nothing.
    """
    channels = None if options.channels is None else list(options.channels)
    try:
        parts = parts_of(path, options)
        part = parts[len(parts) // 2]
        with open_lazy(
            path, axes=options.axes, channels=channels, scene=part.scene, index=part.position
        ) as image:
            return "volume" if len(image.space_shape) == 3 else kind_of_pixels(_centre(image))
    except (ImageError, ValueError, OSError) as error:
        log.debug("%s: %s", path_text(path), error)
        return None


def kind_of_pixels(pixels: np.ndarray) -> str | None:
    """Kind of a 2-D image [H, W, C]; None where a grey image shows nothing but noise."""
    look = look_at(pixels)
    is_grey = look.stain < MIN_STAIN
    is_dark = look.median <= MAX_DARK_MEDIAN and look.asymmetry <= MAX_DARK_ASYMMETRY
    is_phase = is_grey and look.mode > PHASE_MODE and look.asymmetry > PHASE_ASYMMETRY
    if is_dark and not is_phase:
        return "fluorescence"
    if is_grey and not shows_structure(pixels):
        return None
    if is_dark:
        return "phase"
    if is_grey:
        return "grey or pale, dark on a bright background"
    if look.stain > TISSUE_STAIN:
        return "section"
    return "smear" if look.median < MAX_SMEAR_MEDIAN else "mostly bright and empty"


def shows_structure(pixels: np.ndarray) -> bool:
    """Whether an image [H, W, C] shows more than noise that is independent from pixel to pixel."""
    grey = pixels.astype(np.float32).mean(axis=-1)
    height, width = (max(1, n // BLOCK) for n in grey.shape)
    blocks = grey[: height * BLOCK, : width * BLOCK]
    sides = (height, blocks.shape[0] // height, width, blocks.shape[1] // width)
    averaged = blocks.reshape(sides).mean(axis=(1, 3))
    return float(averaged.std()) > MIN_STRUCTURE * float(grey.std())


def look_at(pixels: np.ndarray) -> Look:
    """Measures an image [H, W, C]; colour counts only where there are three or four channels."""
    values = pixels.astype(np.float32)
    grey = values.mean(axis=-1)
    low, high = np.percentile(grey, (0.5, 99.8))
    scaled = np.clip((grey - low) / max(high - low, 1e-9), 0, 1)
    histogram = np.histogram(scaled, 128, (0, 1))[0]
    smooth = np.convolve(np.pad(histogram, 4, mode="edge"), np.hanning(11)[1:-1], mode="valid")
    mode = (int(smooth.argmax()) + 0.5) / 128
    below, above = np.clip(mode - scaled, 0, None), np.clip(scaled - mode, 0, None)
    asymmetry = float(np.sqrt((below**2).sum() / max((above**2).sum(), 1e-9)))
    stain = 0.0
    if pixels.shape[-1] in (3, 4):
        rgb = values[..., :3]
        spread = np.percentile(rgb.max(axis=-1) - rgb.min(axis=-1), 99)
        stain = float(spread / max(np.percentile(rgb, 99.8), 1e-9))
    return Look(mode, float(np.median(scaled)), asymmetry, stain)


def _centre(image: LazyImage) -> np.ndarray:
    starts = [max(0, (n - SIDE) // 2) for n in image.space_shape]
    return image.read([slice(s, s + SIDE) for s in starts])


def _words(kind: str) -> str:
    return FITS[kind][1] if kind in FITS else kind
