"""The record of a benchmark, and the readers that several benchmarks share."""

import csv
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from cellcount_jax.data.sample import Sample
from cellcount_jax.datasets.splits import Protocol
from cellcount_jax.io.annotations.centroids import label_centroids
from cellcount_jax.io.images.image import read_image


@dataclasses.dataclass(frozen=True)
class Published:
    """Published statistics: labelled images, cells per image, and the group they refer to."""

    n_images: int
    mean: float | None = None
    sd: float | None = None
    group: str = ""


@dataclasses.dataclass(frozen=True, eq=False)
class Benchmark:
    """One public dataset.

    Attributes:
      name: Name of its folder, and in configs.
      title: One line for people.
      page: Official page.
      licence: Licence as stated there.
      citation: Reference of the dataset.
      raw_layout: Files expected in the folder, one line.
      published: Published statistics.
      read: Folder -> samples, in the order of their names.
      protocols: By name; the first is the default.
      ndim: 2 or 3.
      channels: Number of channels of the images as read.
      dtype: Data type of the images as read.
      has_labels: Whether instance masks come with the images.
      archive: Official address of a zip with everything, if there is one.
    """

    name: str
    title: str
    page: str
    licence: str
    citation: str
    raw_layout: str
    published: Published
    read: Callable[[Path], Iterator[Sample]]
    protocols: Mapping[str, Protocol]
    ndim: int = 2
    channels: int = 3
    dtype: str = "uint8"
    has_labels: bool = False
    archive: str | None = None

    @property
    def default_protocol(self) -> str:
        """Name of the protocol used by default."""
        return next(iter(self.protocols))


def by_name(*protocols: Protocol) -> dict[str, Protocol]:
    """The table of a benchmark's protocols."""
    return {p.name: p for p in protocols}


def read_pixels(path: Path, *, channels: int) -> np.ndarray:
    """Reads [H, W, channels] uint8; grey is repeated, colour becomes grey if one channel is wanted.

    Raises:
      ValueError: The file is missing or not an 8-bit image.
    """
    pixels = read_image(path).pixels
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[-1] not in (1, 3):
        raise ValueError(
            f"{path}: expected an 8-bit grey or RGB image, found {pixels.dtype} of shape "
            f"{pixels.shape}"
        )
    if pixels.shape[-1] > channels:
        return np.asarray(Image.fromarray(pixels).convert("L"))[..., None]
    return np.repeat(pixels, channels // pixels.shape[-1], axis=-1)


def read_volume(path: Path) -> np.ndarray:
    """Reads a multi-page TIFF as [D, H, W, 1] with its own dtype."""
    return read_image(path, axes="ZYX").pixels


def read_dots_image(path: Path, image: np.ndarray, *, threshold: int) -> np.ndarray:
    """Reads dots [N, 2] float32: one per pixel whose red (or only) channel exceeds the threshold.

    Raises:
      ValueError: Its size is not that of the image.
    """
    marks = read_image(path).pixels[..., 0]
    _check_shape(path, image, marks)
    return np.argwhere(marks > threshold).astype(np.float32)


def read_labels(path: Path, image: np.ndarray) -> np.ndarray:
    """Reads the instance mask [*space] of an image with its own dtype.

    Raises:
      ValueError: Its size is not that of the image.
    """
    axes = "YX" if image.ndim == 3 else "ZYX"
    labels = read_image(path, axes=axes, stored=True).pixels[..., 0]
    _check_shape(path, image, labels)
    return labels


def read_masked(folder: Path, *, channels: int) -> Iterator[Sample]:
    """PNG pairs in `images` and `labels`; a dot is the centroid of an instance."""
    for path in sorted((folder / "images").glob("*.png")):
        labels_path = matching_file(folder / "labels" / path.name, path)
        image = read_pixels(path, channels=channels)
        labels = read_labels(labels_path, image)
        yield Sample(path.stem, image, label_centroids(labels), labels=labels)


def _check_shape(path: Path, image: np.ndarray, mask: np.ndarray) -> None:
    if image.shape[:-1] != mask.shape:
        raise ValueError(
            f"{path}: its shape {mask.shape} differs from its image's {image.shape[:-1]}"
        )


def matching_file(path: Path, image_path: Path) -> Path:
    """`path` if it exists, else a ValueError that names the image without annotation."""
    if not path.exists():
        raise ValueError(f"{image_path}: its annotation {path} is missing")
    return path


def read_columns(path: Path, columns: tuple[str, ...]) -> np.ndarray:
    """Reads columns of a comma-separated table by name, [N, len(columns)] float32.

    Raises:
      ValueError: A column is missing, or a value is not finite.
    """
    with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
        rows = list(csv.reader(file))
    if not any(cell.strip() for row in rows for cell in row):
        return np.zeros((0, len(columns)), np.float32)
    names = [name.strip().casefold() for name in rows[0]]
    missing = [c for c in columns if c.casefold() not in names]
    if missing:
        raise ValueError(f"{path}: no column {missing[0]!r} among {', '.join(rows[0])}")
    where = [names.index(c.casefold()) for c in columns]
    values = []
    for number, row in enumerate(rows[1:], start=2):
        try:
            values.append([float(row[k]) for k in where])
        except (ValueError, IndexError) as error:
            if any(cell.strip() for cell in row):
                raise ValueError(f"{path}, line {number}: {','.join(row)!r} has no dot") from error
    dots = np.asarray(values, np.float32).reshape(-1, len(columns))
    if not np.isfinite(dots).all():
        raise ValueError(f"{path}: a coordinate is not finite")
    return dots
