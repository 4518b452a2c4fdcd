"""Which image to look at next: the one whose count is the most doubtful."""

import csv
import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from cellcount_jax.annotation.propose import by_model
from cellcount_jax.inference.counter import Counter
from cellcount_jax.inference.image_argument import ArrayReader
from cellcount_jax.io.images.image import Image, open_lazy
from cellcount_jax.runtime.path_text import ANY_NAME
from cellcount_jax.runtime.replace_file import replacing

NEAR_THRESHOLD = 0.25
"""Scores within this share of the threshold are near it."""


@dataclasses.dataclass(frozen=True)
class Doubt:
    """Why the count of an image is doubtful; each part is 0 where nothing speaks against it.

    Attributes:
      image: Name of the image.
      count: Count by the counter.
      n_points: Number of points by the counter.
      readouts: |count - number of points|, relative to the larger of them.
      mirrored: The same between the image and its mirror image.
      near_threshold: Share of the points whose scores are near the threshold.
      unlike: How far the image's intensities lie outside that of the training images, 0 to 1.
    """

    image: str
    count: float
    n_points: int
    readouts: float
    mirrored: float
    near_threshold: float
    unlike: float = 0.0

    @property
    def total(self) -> float:
        """The sum of the parts: the larger, the sooner to be looked at."""
        return self.readouts + self.mirrored + self.near_threshold + self.unlike


def doubt_of(
    counter: Counter,
    image: Image,
    *,
    name: str,
    reference: np.ndarray | None = None,
) -> Doubt:
    """How doubtful the count of an image is.

    Args:
      counter: Counter that gives points.
      image: Image in memory.
      name: Name of the image.
      reference: [M, 4] `features` of training images; None leaves this part out.
    """
    found = by_model(counter, ArrayReader(image.pixels, image.ndim), spacing=image.spacing)
    flipped = by_model(
        counter, ArrayReader(image.pixels[..., ::-1, :], image.ndim), spacing=image.spacing
    )
    counted = found.scores >= found.threshold
    near = np.abs(found.scores - found.threshold) <= NEAR_THRESHOLD * abs(found.threshold)
    n = int(counted.sum())
    count = float(n if found.count is None else found.count)
    mirrored = float((flipped.scores >= flipped.threshold).sum())
    return Doubt(
        image=name,
        count=count,
        n_points=n,
        readouts=_difference(count, n),
        mirrored=_difference(mirrored, n),
        near_threshold=float(near.sum()) / max(int((counted | near).sum()), 1),
        unlike=0.0 if reference is None else unlikeness(features(image.pixels), reference),
    )


def rank(doubts: Iterable[Doubt], *, done: Sequence[str] = ()) -> list[Doubt]:
    """The most doubtful first; annotated ones last."""
    return sorted(doubts, key=lambda d: (d.image in done, -d.total))


def features(pixels: np.ndarray) -> np.ndarray:
    """[4] background, range, roughness and saturation of an image, for `unlikeness`."""
    values = pixels.astype(np.float64)
    low, middle, high = np.percentile(values, (1, 50, 99.5))
    rough = float(np.abs(np.diff(values, axis=-2)).mean())
    return np.array([middle, high - low, rough, float((values >= values.max()).mean())])


def unlikeness(found: np.ndarray, reference: np.ndarray) -> float:
    """How far features lie outside the range of others, 0 (inside) to 1 (a range or more away).

    Args:
      found: [F] of one image.
      reference: [M, F] of others.
    """
    low, high = reference.min(axis=0), reference.max(axis=0)
    width = np.maximum(high - low, 0.1 * np.abs(high) + 1e-9)
    outside = np.maximum(np.maximum(low - found, found - high), 0.0) / width
    return float(np.minimum(outside, 1.0).max())


def rank_folder(
    counter: Counter, images: Sequence[Path], names: Sequence[str], *, labelled: Sequence[Path] = ()
) -> list[Doubt]:
    """Counts every image that has no dots yet, the most doubtful first.

    Args:
      counter: Counter that gives points.
      images: Files, all of them read whole.
      names: Names of the images.
      labelled: Images with dots, which the others are compared with.
    """
    reference = None
    if labelled:
        reference = np.stack([features(_read(path).pixels) for path in labelled])
    return rank(
        doubt_of(counter, _read(path), name=name, reference=reference)
        for path, name in zip(images, names, strict=True)
    )


def write_queue(path: Path, doubts: Sequence[Doubt]) -> None:
    """Writes the order and its reasons as a table."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, newline="", encoding="utf-8", errors=ANY_NAME) as file:
        table = csv.writer(file)  # with "\n" alone, a name with "\r" would not be quoted
        names = [field.name for field in dataclasses.fields(Doubt)]
        table.writerow([*names, "doubt"])
        for doubt in doubts:
            row = [getattr(doubt, name) for name in names]
            numbers = [f"{v:.4g}" if isinstance(v, float) else v for v in (*row, doubt.total)]
            table.writerow(numbers)


def read_queue(path: Path) -> list[str]:
    """Names of the images in the order that was written; none if there is no table."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8", errors=ANY_NAME) as file:
        return [row["image"] for row in csv.DictReader(file)]


def _difference(a: float, b: float) -> float:
    return abs(a - b) / max(a, b, 1.0)


def _read(path: Path) -> Image:
    with open_lazy(path) as image:
        return Image(image.read(), image.spacing, image.channel_names, image.path)
