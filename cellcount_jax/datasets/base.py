"""What a benchmark is, and how its publishers' dots images and label masks are decoded."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from cellcount_jax.data.sample import Sample
from cellcount_jax.datasets.splits import Protocol


@dataclasses.dataclass(frozen=True)
class Published:
    """What is known of the published data: labelled images, cells per image, which group."""

    n_images: int
    mean: float | None = None
    sd: float | None = None
    group: str = ""


@dataclasses.dataclass(frozen=True, eq=False)
class Benchmark:
    """One public data set.

    Attributes:
      name: name of its folder and in configs.
      title: one line for people.
      ndim: 2 or 3.
      channels: of the images as read.
      dtype: of the images as read.
      page: official page.
      licence: as stated there.
      citation: whom to cite.
      raw_layout: files expected in the folder, one line.
      published: what its publishers counted.
      read: folder -> samples, in the order of their names.
      protocols: by name.
      default_protocol: one of them.
      has_labels: whether instance masks come with the images.
      archive: official address of a zip with everything, where there is one.
    """

    name: str
    title: str
    ndim: int
    channels: int
    dtype: str
    page: str
    licence: str
    citation: str
    raw_layout: str
    published: Published
    read: Callable[[Path], Iterator[Sample]]
    protocols: Mapping[str, Protocol]
    default_protocol: str
    has_labels: bool = False
    archive: str | None = None


def by_name(*protocols: Protocol) -> dict[str, Protocol]:
    """The table of a benchmark's protocols."""
    return {p.name: p for p in protocols}


def read_pixels(path: Path, mode: str) -> np.ndarray:
    """[H, W, C] uint8 of a PNG, JPEG or TIFF, converted to `mode` (L, RGB).

    Raises:
      ValueError: the file is missing or not an image.
    """
    try:
        with Image.open(path) as image:
            array = np.asarray(image.convert(mode))
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"{path}: cannot be read as an image ({_short(error)})") from error
    return array[..., None] if array.ndim == 2 else array


def read_plane(path: Path) -> np.ndarray:
    """[H, W] of a one-channel image with its own dtype, for label masks and 1-bit dots."""
    try:
        with Image.open(path) as image:
            array = np.asarray(image)
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"{path}: cannot be read as an image ({_short(error)})") from error
    if array.ndim != 2:
        raise ValueError(f"{path}: one channel expected, found an array of shape {array.shape}")
    return array


def read_volume(path: Path) -> np.ndarray:
    """[D, H, W] of a multi-page TIFF with its own dtype."""
    try:
        array = tifffile.imread(path)
    except Exception as error:  # tifffile and its codecs raise many kinds on a broken file
        raise ValueError(f"{path}: cannot be read as a TIFF ({_short(error)})") from error
    if array.ndim != 3:
        raise ValueError(f"{path}: a volume expected, found an array of shape {array.shape}")
    return array


def _short(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def points_from_mask(mask: np.ndarray) -> np.ndarray:
    """[N, ndim] float32 of the pixels that are set, one dot each."""
    return np.argwhere(mask).astype(np.float32)


def centroids(labels: np.ndarray) -> np.ndarray:
    """[N, ndim] float32 centroids of an instance mask, in order of the ids; 0 is background."""
    where = np.nonzero(labels)
    ids = labels[where].astype(np.int64)
    size = np.bincount(ids)
    present = np.flatnonzero(size)
    sums = [np.bincount(ids, weights=axis)[present] for axis in where]
    return (np.stack(sums, axis=-1) / size[present, None]).astype(np.float32)


def same_shape(path: Path, image: np.ndarray, mask: np.ndarray) -> None:
    """Raises ValueError if an annotation is not of its image's size."""
    if image.shape[:-1] != mask.shape:
        raise ValueError(
            f"{path}: its size {mask.shape} differs from its image's {image.shape[:-1]}"
        )


def matching_file(path: Path, of: Path) -> Path:
    """`path` if it exists, else a ValueError that names the file left alone."""
    if not path.exists():
        raise ValueError(f"{of}: its partner {path.name} is missing from {path.parent}")
    return path


def read_cell_dots_pairs(folder: Path) -> Iterator[Sample]:
    """Pairs `NAMEcell.png`, `NAMEdots.png`; every pixel with red == 255 is a cell."""
    for path in sorted(folder.rglob("*cell.png")):
        dots_path = matching_file(path.with_name(path.name.replace("cell.png", "dots.png")), path)
        image = read_pixels(path, "RGB")
        mask = read_pixels(dots_path, "RGB")[..., 0] == 255
        same_shape(dots_path, image, mask)
        yield Sample(path.name.removesuffix("cell.png"), image, points_from_mask(mask))
