"""Evaluates a counter on an annotated folder: a record per image, and per region if given.

The folder is laid out as `io.pairing` says. Images may belong to groups (a plate, a staining):
those of `groups.csv` (columns image, group), else the sub-folders of the images.
"""

import collections
import csv
import dataclasses
import functools
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cellcount_jax.data import trained_on
from cellcount_jax.data.resize import in_plane
from cellcount_jax.data.sample import Sample
from cellcount_jax.datasets.usable_images.usable import misplaced_on_disk
from cellcount_jax.evaluation.image import GAME_LEVELS, ImageEvaluation, evaluate_image
from cellcount_jax.evaluation.regions import evaluate_regions
from cellcount_jax.evaluation.summary import RADIUS_FACTORS
from cellcount_jax.inference.counter import Counter
from cellcount_jax.io.annotations import csv_table
from cellcount_jax.io.annotations.dots import read_dots
from cellcount_jax.io.images.axes import chosen_spacing
from cellcount_jax.io.images.image import read_image
from cellcount_jax.io.pairing import FolderError, find_pairs, stem
from cellcount_jax.io.regions import regions_of
from cellcount_jax.prediction.remarks import error_line, remarks_of
from cellcount_jax.runtime.path_text import cell_text, path_text
from cellcount_jax.runtime.replace_file import replacing

COLUMNS = (
    *("image", "group", "roi", "true", "predicted", "error", "n_points", "tp", "fp", "fn"),
    "radius_px",
    *(f"game_{level}" for level in GAME_LEVELS),
    *("status", "remarks"),
)

log = logging.getLogger(__name__)


def evaluate_folder(
    counter: Counter,
    folder: Path,
    *,
    radius: float | None = None,
    diameter: float | None = None,
    voxel_size: Sequence[float] | None = None,
    regions: Path | None = None,
    **chosen: Any,
) -> Iterator[ImageEvaluation]:
    """Counts each image of a folder and compares with its dots, one after the other.

    Dots that do not seem to belong to their image are compared as they are; a remark says so.

    Args:
      counter: Trained counter.
      folder: Folder of images with annotations.
      radius: Matching radius in pixels of the images; None takes the one that the counter was
        trained with, converted to pixels of each image.
      diameter: Cell diameter in pixels, for counters that resize images by it.
      voxel_size: Micrometres per pixel, (z, y, x), in place of the files' metadata.
      regions: A file of regions, or a folder of files named like the images.
      **chosen: `channels`, `axes`, `scene` and `time` of `read_image`.

    Returns:
      A record for each image, in the order of the files, each followed by those of its regions;
      an image that cannot be compared has a record whose status says why. What is doubtful about
      an image or its dots is in `remarks`, and in the log.

    Raises:
      ValueError: No images or no annotations, or a wrong `groups.csv`.
    """
    images, pairs = _annotated_images(folder)
    if regions is not None and not regions.exists():
        raise FolderError(f"{regions}: no such file or folder of regions")
    if diameter is not None:
        counter = counter.with_cell_diameter(diameter)
    groups = find_groups(folder, images)
    evaluated = functools.partial(
        _evaluate_file,
        counter,
        radius=radius,
        voxel_size=voxel_size,
        regions=regions,
        chosen=chosen,
    )
    shared = {path for path, n in collections.Counter(pairs.values()).items() if n > 1}

    def records() -> Iterator[ImageEvaluation]:
        own = {path: dots for path, dots in pairs.items() if dots not in shared}
        with remarks_of(folder, None):  # those about reading are said when the image is compared
            doubts = misplaced_on_disk(folder, own, voxel_size=voxel_size, **chosen)
        for path in images:
            name, dots = path_text(path.relative_to(folder).as_posix()), pairs.get(path)
            try:
                if dots in shared:
                    raise ValueError(f"{dots}: several images have its name; rename them")
                with remarks_of(path, set()) as remarks:
                    whole, *parts = evaluated(path, dots, name=name, group=groups[path])
                    if path in doubts:
                        log.warning("%s", doubts[path])
                yield dataclasses.replace(whole, remarks=tuple(remarks))
                yield from parts
            except (ValueError, OSError, MemoryError) as error:
                line = error_line(path, error)
                log.error("%s", line)
                yield ImageEvaluation(name, groups[path], status=f"error: {line}")

    return records()


def _annotated_images(folder: Path) -> tuple[list[Path], dict[Path, Path]]:
    """Images of a folder and, for those that have one, their annotation file; at least one."""
    images, pairs = find_pairs(folder)
    if not pairs:
        raise FolderError(
            f"{folder}: {len(images)} images but no annotations to compare with; put them in "
            f"{folder / 'dots'}"
        )
    return images, pairs


def _evaluate_file(
    counter: Counter,
    path: Path,
    annotation: Path | None,
    *,
    name: str,
    group: str,
    radius: float | None,
    voxel_size: Sequence[float] | None,
    regions: Path | None,
    chosen: Mapping[str, Any],
) -> list[ImageEvaluation]:
    """The record of one file and those of its regions; without dots if it has no annotation."""
    image, dots = read_image(path, **chosen), None
    shape, spacing = image.pixels.shape[:-1], chosen_spacing(image, voxel_size)
    if annotation is not None:
        dots = read_dots(annotation, image_shape=shape, pixel_size=spacing).points
    trained = counter.facts.get("trained_on")
    pixels = trained_on.in_known_channels(image.pixels, image.channel_names, trained)
    sample = Sample(name, pixels, dots, group=group, spacing=spacing)
    parts = [] if regions is None else regions_of(regions, path, shape)
    found = counter.count(pixels, spacing=spacing)
    own = radius or counter.facts["radius"] / in_plane(found.scale)
    whole = evaluate_image(sample, found, radius=own, factors=RADIUS_FACTORS)
    return [whole, *evaluate_regions(whole, found, parts, sample)]


def names_in_training(counter: Counter, images: Sequence[ImageEvaluation]) -> list[str]:
    """Names of images that are also names of the counter's training images."""
    known = {name.partition("@")[0] for name in counter.facts.get("train_names", ())}
    return [image.name for image in images if image.name in known and not image.roi]


def find_groups(folder: Path, images: Sequence[Path]) -> dict[Path, str]:
    """Group of each image.

    Raises:
      ValueError: `groups.csv` is damaged or lacks a column.
    """
    path = folder / "groups.csv"
    if path.exists():
        rows = csv_table.read_rows(path, "image", "group")
        listed = {stem(Path(row["image"])): cell_text(row["group"]) for _, row in rows}
        return {image: listed.get(stem(image), "") for image in images}
    root = folder / "images" if (folder / "images").is_dir() else folder
    places = {image: path_text(image.parent.relative_to(root).as_posix()) for image in images}
    return {image: "" if place == "." else place for image, place in places.items()}


def write_table(path: Path, images: Iterable[ImageEvaluation]) -> list[ImageEvaluation]:
    """Writes `evaluation.csv` and returns the records."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = []
    with replacing(path, keep=True, newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, COLUMNS)
        table.writeheader()
        for image in images:
            table.writerow(_cells(image))
            kept.append(image)
    return kept


def _cells(image: ImageEvaluation) -> dict[str, Any]:
    cells: dict[str, Any] = {
        "image": image.name,
        **{key: getattr(image, key) for key in ("group", "roi", "true", "n_points", "status")},
        **{key: _rounded(getattr(image, key)) for key in ("predicted", "error")},
        "radius_px": _rounded(image.radius or None),
        "remarks": "; ".join(image.remarks),
    }
    if image.matches:
        cells |= zip(("tp", "fp", "fn"), image.matches[image.radius], strict=True)
    games = zip(GAME_LEVELS, image.game, strict=False)
    return cells | {f"game_{level}": _rounded(value) for level, value in games}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
