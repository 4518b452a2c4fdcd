"""Finds dots that do not belong to their image, by what the image shows at their positions.

A linear score of intensity and contrast at six scales is fitted to a folder to distinguish the
positions of dots from the same positions in other images. A file of dots is reported if it scores
no higher on its own image than on others while nearly all other files do.
"""

import collections
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np
from scipy import ndimage

SIGMAS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
"""Sigmas of the blurs, in pixels; differences of neighbours are the contrast at a scale."""

MIN_IMAGES = 8
"""Least number of images of one size with dots; fewer do not show what is usual."""

MIN_DOTS, MAX_DOTS = 10, 200
"""Least and largest number of dots per file: fewer decide nothing, more are thinned out evenly."""

OTHERS = 12
"""Number of other images, next in order, on which each file of dots is scored."""

POWER = 4.0
"""Least typical score of dots on their own image in a group, in spreads of the scores on others."""

UNLIKE, CHANCE = 0.3, 2.5
"""A file is reported if it scores below this fraction of the typical score and below this score,
which one file in fifty reaches on images that are not its own."""


class StoredImage(Protocol):
    """An image that is read when it is looked at, so that a large folder does not fill the memory.

    Attributes:
      shape: Shape of what `read` returns.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of what `read` returns."""

    def read(self) -> np.ndarray:
        """Pixels [y, x] or [y, x, channel]."""


class Fit(NamedTuple):
    """The score fitted to the dots of a group of images.

    Attributes:
      scores: Scores [n, 1 + others] of each file's dots on its own image (column 0) and on the
        next ones; 0 is the median over other images, 1 their spread (scaled MAD).
      direction: Weights of the contrasts, [scale].
      level: Typical weighted contrast at dots.
      floor: Least intensity spread that an image is divided by.
    """

    scores: np.ndarray
    direction: np.ndarray
    level: float
    floor: float


class Doubt(NamedTuple):
    """Why dots do not seem to belong to their image.

    Attributes:
      line: The reason in words.
      is_sure: Whether the dots fit another image of the folder, or there are none beside an image
        full of cells; else they merely stand out little, which dots of an odd image may do, too.
    """

    line: str
    is_sure: bool


def find_misplaced(
    images: Sequence[np.ndarray | StoredImage],
    dots: Sequence[np.ndarray | None],
    names: Sequence[str],
) -> dict[str, Doubt]:
    """Reports images whose dots fit them no better than other images.

    Args:
      images: [y, x] or [y, x, channel] of any type, in memory or to be read; volumes are skipped.
      dots: Positions [N, 2], y and x in pixels, for each image, or None.
      names: Unique names of the images.

    Returns:
      A doubt for each name whose dots do not fit; empty where the folder cannot tell.
    """
    groups = collections.defaultdict(list)
    for name, image, found in zip(names, images, dots, strict=True):
        if found is not None and found.shape[-1] == 2:
            groups[image.shape].append((name, image, found))
    doubts: dict[str, Doubt] = {}
    for group in groups.values():
        dotted = [one for one in group if len(one[2]) >= MIN_DOTS]
        if len(dotted) < MIN_IMAGES:
            continue
        fit = fit_dots([image for _, image, _ in dotted], [found for *_, found in dotted])
        if np.median(fit.scores[:, 0]) < POWER:
            continue
        doubts |= _misplaced(fit.scores, [name for name, *_ in dotted])
        empty = {name: image for name, image, found in group if not len(found)}
        if empty:
            usual = np.median([_share_shown(image, fit) for _, image, _ in dotted])
            for name, image in empty.items():
                if _share_shown(image, fit) > UNLIKE * usual:
                    line = (
                        "its file has no dots, but the image shows about as much as those with "
                        "dots: look whether the file is complete"
                    )
                    doubts[name] = Doubt(line, is_sure=True)
    return doubts


def _misplaced(scores: np.ndarray, names: Sequence[str]) -> dict[str, Doubt]:
    usual, doubts = np.median(scores[:, 0]), {}
    for k in map(int, np.flatnonzero(scores[:, 0] < min(UNLIKE * usual, CHANCE))):
        best = int(scores[k, 1:].argmax()) + 1
        fits = scores[k, best] > 2 * UNLIKE * usual
        hint = f" (they would fit {names[(k + best) % len(names)]})" if fits else ""
        line = (
            f"its dots lie no more on cells than they do on other images of the folder{hint}: "
            "look whether the file belongs to this image"
        )
        doubts[names[k]] = Doubt(line, is_sure=bool(fits))
    return doubts


def fit_dots(images: Sequence[np.ndarray | StoredImage], dots: Sequence[np.ndarray]) -> Fit:
    """Fits the score to n images of one shape, each with dots [N, 2]."""
    n, others = len(images), min(OTHERS, len(images) - 1)
    floor = 0.3 * float(np.median([_pixels(image).std() for image in images]))
    means = np.zeros((n, 1 + others, len(SIGMAS)))
    places = [_thinned(found, images[0].shape) for found in dots]
    for at, image in enumerate(images):
        for scale, contrast in enumerate(contrasts(_pixels(image), floor)):
            for step in range(1 + others):
                means[(at - step) % n, step, scale] = contrast[places[(at - step) % n]].mean()
    usual = np.median(means[:, 1:], axis=1, keepdims=True)
    spread = np.cov((means[:, 1:] - usual).reshape(-1, len(SIGMAS)), rowvar=False)
    ridge = 1e-3 * np.trace(spread) / len(SIGMAS) + 1e-12
    offset = np.median(means[:, 0] - usual[:, 0], axis=0)
    direction = np.linalg.solve(spread + ridge * np.eye(len(SIGMAS)), offset)
    own, scores = means[:, 0] @ direction, (means - usual) @ direction
    scores -= np.median(scores[:, 1:], axis=1, keepdims=True)
    scores /= 1.4826 * np.median(np.abs(scores[:, 1:])) + 1e-12
    return Fit(scores, direction, float(np.median(own)), floor)


def contrasts(image: np.ndarray, floor: float) -> Iterator[np.ndarray]:
    """Contrast of each pixel, [y, x], in spreads of the image's intensity, scale after scale."""
    grey = image.astype(np.float32)
    grey = grey.mean(-1) if grey.ndim == 3 else grey
    grey = (grey - grey.mean()) / max(float(image.std()), floor, 1e-6)
    finer = ndimage.gaussian_filter(grey, SIGMAS[0], truncate=3.0)
    for sigma in SIGMAS[1:]:
        coarser = ndimage.gaussian_filter(grey, sigma, truncate=3.0)
        yield finer - coarser
        finer = coarser
    yield finer


def _pixels(image: np.ndarray | StoredImage) -> np.ndarray:
    return image if isinstance(image, np.ndarray) else image.read()


def _share_shown(image: np.ndarray | StoredImage, fit: Fit) -> float:
    found = contrasts(_pixels(image), fit.floor)
    shown = sum(weight * contrast for weight, contrast in zip(fit.direction, found, strict=True))
    return float(np.mean(shown > fit.level))


def _thinned(dots: np.ndarray, shape: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    chosen = np.unique(np.linspace(0, len(dots) - 1, MAX_DOTS).astype(int))
    inside = np.clip(np.rint(dots[chosen]), 0, np.array(shape[:2]) - 1).astype(int)
    return inside[:, 0], inside[:, 1]
