"""Proposals for a person to correct: a threshold, blobs of one size, or a trained counter.

Large images are read block by block, so that an OME-Zarr of any size stays on the disk.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from scipy import ndimage

from cellcount_jax.annotation import propose_dots
from cellcount_jax.data import trained_on
from cellcount_jax.inference.counter import Counter
from cellcount_jax.inference.image_argument import ArrayReader
from cellcount_jax.inference.window_pass import fits_in_memory
from cellcount_jax.io.annotations.dots import Dots
from cellcount_jax.io.images.image import Image
from cellcount_jax.io.images.readable import Readable

METHODS = ("otsu", "log", "model")

BLOCK = {2: (2048, 2048), 3: (64, 512, 512)}
"""Sides of a block of an image that is too large to be held."""

OVERLAP = 32
"""Pixels that a block is read beyond its sides, where a cell may reach."""

LOWEST_SHARE = 0.3
"""A counter's points are kept from this share of its threshold on, for the threshold slider."""


@dataclasses.dataclass(frozen=True, eq=False)
class Proposals:
    """Proposed dots.

    Attributes:
      points: [N, ndim] float32.
      scores: [N] float32, higher is more certain.
      threshold: Score that separates cells from the rest; -inf if all of them are meant.
      count: Count by the counter; None for other methods.
    """

    points: np.ndarray
    scores: np.ndarray
    threshold: float
    count: float | None = None


def classical(
    image: Readable,
    *,
    method: str = "otsu",
    diameter: float | None = None,
    dark: bool = False,
    spacing: Sequence[float] | None = None,
    on_block: Callable[[int, int], None] | None = None,
) -> Proposals:
    """Proposals by Otsu's threshold or by the Laplacian of Gaussian.

    The score is the contrast of the dot to its surroundings, in standard deviations of those.

    Args:
      image: [*space, C], read by block beyond 2^25 pixels; a block is thresholded by itself.
      method: `otsu` or `log`.
      diameter: Cell diameter in pixels; estimated (block by block) if not given.
      dark: Cells are darker than the background.
      spacing: Size of a voxel along each axis of a volume.
      on_block: Called with the number of blocks done and of all.
    """
    space = image.shape[:-1]
    whole = fits_in_memory(image)
    blocks = list(_blocks(space, space if whole else BLOCK[len(space)]))
    found, scores = [np.zeros((0, len(space)), np.float32)], [np.zeros(0, np.float32)]
    for number, block in enumerate(blocks):
        outer = tuple(
            slice(max(0, b.start - OVERLAP), min(n, b.stop + OVERLAP))
            for b, n in zip(block, space, strict=True)
        )
        pixels = image.read((*outer, slice(0, image.shape[-1])))
        at = propose_dots.propose(
            pixels, method=method, diameter=diameter, dark=dark, spacing=spacing
        )
        inside = [o.start for o in outer] + at
        low, high = [b.start - 0.5 for b in block], [b.stop - 0.5 for b in block]
        mine = ((inside >= low) & (inside < high)).all(axis=1)
        found.append(inside[mine].astype(np.float32))
        scores.append(contrast(pixels, at[mine], diameter=diameter or 10.0, dark=dark))
        if on_block is not None:
            on_block(number + 1, len(blocks))
    return Proposals(np.concatenate(found), np.concatenate(scores), -np.inf)


def contrast(
    pixels: np.ndarray, points: np.ndarray, *, diameter: float, dark: bool = False
) -> np.ndarray:
    """Contrast [N] of points: intensity above their surroundings, in standard deviations of these.

    Args:
      pixels: [*space, C]; of the channels the sum is taken.
      points: [N, ndim].
      diameter: Cell diameter in pixels; the surroundings are three diameters wide.
      dark: Cells are darker than the background.
    """
    if not len(points):
        return np.zeros(0, np.float32)
    grey = pixels.astype(np.float32).sum(axis=-1) * (-1 if dark else 1)
    size = [min(n, max(3, round(3 * diameter))) for n in grey.shape]
    if grey.ndim == 3:
        size[0] = min(size[0], 5)
    mean = ndimage.uniform_filter(grey, size)
    spread = np.sqrt(np.maximum(ndimage.uniform_filter(grey**2, size) - mean**2, 1e-6))
    at = tuple(np.clip(np.rint(points), 0, np.array(grey.shape) - 1).astype(np.int64).T)
    centre = ndimage.gaussian_filter(grey, max(0.5, diameter / 8))
    return ((centre - mean) / spread)[at].astype(np.float32)


def by_model(
    counter: Counter,
    image: Readable,
    *,
    spacing: Sequence[float] | None = None,
    on_block: Callable[[int, int], None] | None = None,
) -> Proposals:
    """Points of a trained counter, also weaker ones than it counts; read window by window.

    Args:
      counter: Counter that gives points.
      image: [*space, C].
      spacing: Micrometres per pixel.
      on_block: Called with the number of windows done and of all of a large image.

    Raises:
      ValueError: The counter gives no points, or the image does not fit it.
    """
    readout = counter.stage.readout
    if readout.points_map is None:
        raise ValueError("this model gives a count and no points; choose another one")
    # The outlines of components, and so their number, depend on the threshold.
    share = LOWEST_SHARE if readout.decoder == "peaks" else 1.0
    lower = dataclasses.replace(readout, threshold=share * readout.threshold)
    patient = dataclasses.replace(counter, stage=dataclasses.replace(counter.stage, readout=lower))
    found = patient.count_open(image, spacing=spacing, on_window=on_block)
    assert found.points is not None  # there is a points map
    assert found.scores is not None
    top = 1.0
    if readout.decoder == "peaks":
        highest = float(found.scores.max(initial=0.0))
        top = highest if readout.single_cell_peak is None else readout.single_cell_peak
    threshold = readout.threshold * top
    counts_points = readout.count in ("components", "peaks")
    count = float((found.scores >= threshold).sum()) if counts_points else found.count
    return Proposals(found.points, found.scores, threshold, count)


def model_finder(model: str) -> Callable[[Image], Dots]:
    """A function that proposes what a trained counter finds in an image, with scores.

    Args:
      model: Model as in `Counter.load`.
    """
    counter = Counter.load(model)

    def find(image: Image) -> Dots:
        trained = counter.facts.get("trained_on")
        pixels = trained_on.in_known_channels(image.pixels, image.channel_names, trained)
        reader = ArrayReader(pixels, image.ndim)
        found = by_model(counter, reader, spacing=image.spacing)
        kept = found.scores >= found.threshold
        return Dots(found.points[kept], found.scores[kept])

    return find


def _blocks(space: Sequence[int], size: Sequence[int]) -> Iterator[tuple[slice, ...]]:
    starts = [range(0, n, s) for n, s in zip(space, size, strict=True)]
    for corner in itertools.product(*starts):
        yield tuple(slice(c, min(c + s, n)) for c, s, n in zip(corner, size, space, strict=True))
