"""A counter against a folder with truth: one row per image, and per region of it where given.

The folder is laid out as `datasets.folder` says. Images may belong to groups (a plate, a staining):
those that `groups.csv` (columns image, group) names, else the sub-folder that an image lies in.
"""

import csv
import dataclasses
import logging
from collections import Counter as Tally
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from cellcount_jax.data.pixel_size import in_plane
from cellcount_jax.evaluation.regions import region_rows
from cellcount_jax.evaluation.summary import FACTORS, LEVELS, WITHOUT_DOTS, Row, compare
from cellcount_jax.inference.counter import Counter
from cellcount_jax.io.annotations.dots import read_dots
from cellcount_jax.io.images.image import read_image
from cellcount_jax.io.pairing import FolderError, find_pairs, stem
from cellcount_jax.io.regions import Region, find_regions_file, read_regions

COLUMNS = (
    *(
        "image",
        "group",
        "roi",
        "true",
        "predicted",
        "error",
        "n_points",
        "tp",
        "fp",
        "fn",
        "radius_px",
    ),
    *(f"game{level}" for level in LEVELS),
    "status",
)

log = logging.getLogger(__name__)


def evaluate_folder(
    counter: Counter,
    folder: Path,
    *,
    radius: float | None = None,
    diameter: float | None = None,
    channels: Sequence[int | str] | None = None,
    regions: Path | None = None,
) -> Iterator[Row]:
    """Counts each image of a folder and compares, one after the other.

    Args:
      counter: trained.
      folder: images with annotations.
      radius: matching radius in pixels of the images; None takes the one that the counter was
        trained with, at the scale at which it sees each image.
      diameter: of the cells in pixels, for counters that resize images by it.
      channels: of the images, by index or name; None takes all.
      regions: a file of regions, or a folder of files named like the images.

    Returns:
      A row for each image, in the order of the files, each followed by those of its regions;
      what is wrong with an image stands in its row.

    Raises:
      FolderError: no images or no annotations, or a wrong `groups.csv`.
    """
    images, pairs = find_pairs(folder)
    if not pairs:
        raise FolderError(
            f"{folder}: {len(images)} images but no annotations to compare with; put them in "
            f"{folder / 'dots'}"
        )
    if regions is not None and not regions.exists():
        raise FolderError(f"{regions}: no such file or folder of regions")
    suited = counter if diameter is None else counter.with_cell_diameter(diameter)
    groups = find_groups(folder, images)
    shared = {path for path, n in Tally(pairs.values()).items() if n > 1}

    def counted(row: Row, path: Path) -> list[Row]:
        if pairs.get(path) in shared:
            raise ValueError(f"{pairs[path]}: belongs to several images of one name; rename them")
        image = read_image(path, channels=channels)
        shape, spacing = image.pixels.shape[:-1], image.spacing
        parts = [] if regions is None else _regions(regions, path, shape)
        found = suited.count(image.pixels, spacing=spacing)
        row = dataclasses.replace(
            row,
            predicted=float(found.count),
            points=found.points,
            radius=radius or trained_radius(counter) / in_plane(found.scale),
        )
        if path in pairs:
            dots = read_dots(pairs[path], image_shape=shape).points
            row = compare(row, dots, shape, density=found.density, spacing=spacing)
        else:
            row = dataclasses.replace(row, status=WITHOUT_DOTS)
        return [row, *region_rows(row, found, parts, shape, spacing=spacing)]

    def rows() -> Iterator[Row]:
        for path in images:
            row = Row(path.relative_to(folder).as_posix(), groups[path])
            try:
                yield from counted(row, path)
            except (ValueError, OSError, MemoryError) as error:
                line = " ".join(str(error).split()) or type(error).__name__
                log.error("%s: %s", row.image, line)
                yield dataclasses.replace(row, status=f"error: {line}")

    return rows()


def _regions(place: Path, image: Path, shape: Sequence[int]) -> list[Region]:
    path = find_regions_file(place, image)
    if path is None:
        log.warning("%s: no file of regions in %s; compared as a whole", image, place)
    return [] if path is None else read_regions(path, shape)


def trained_radius(counter: Counter) -> float:
    """Matching radius of the counter's training, in pixels of the images as it sees them."""
    return float(counter.facts.get("config", {}).get("radius", 5.0))


def names_in_training(counter: Counter, rows: Sequence[Row]) -> list[str]:
    """Images among the rows that bear the name of one that trained the counter."""
    known = {name.partition("@")[0] for name in counter.facts.get("train_names", ())}
    return [row.image for row in rows if row.image in known and not row.roi]


def find_groups(folder: Path, images: Sequence[Path]) -> dict[Path, str]:
    """Group of each image.

    Raises:
      FolderError: `groups.csv` lacks a column.
    """
    path = folder / "groups.csv"
    if path.exists():
        with path.open(newline="", encoding="utf-8-sig") as file:
            table = csv.DictReader(file)
            if not {"image", "group"} <= set(table.fieldnames or ()):
                raise FolderError(f"{path}: the columns must be named image and group")
            listed = {stem(Path(row["image"].strip())): row["group"].strip() for row in table}
        return {image: listed.get(stem(image), "") for image in images}
    root = folder / "images" if (folder / "images").is_dir() else folder
    places = {image: image.parent.relative_to(root).as_posix() for image in images}
    return {image: "" if place == "." else place for image, place in places.items()}


def write_table(path: Path, rows: Iterable[Row]) -> list[Row]:
    """Writes `evaluation.csv` while the rows come, and returns them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = []
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, COLUMNS)
        table.writeheader()
        for row in rows:
            table.writerow(_cells(row))
            file.flush()
            kept.append(row)
    return kept


def _cells(row: Row) -> dict[str, Any]:
    cells: dict[str, Any] = {
        key: getattr(row, key) for key in ("image", "group", "roi", "true", "status")
    }
    cells |= {"n_points": row.n_points, "radius_px": _rounded(row.radius)}
    cells |= {"predicted": _rounded(row.predicted), "error": _rounded(row.error)}
    if row.matches:
        cells |= zip(("tp", "fp", "fn"), row.matches[FACTORS.index(1.0)], strict=True)
    cells |= {f"game{n}": _rounded(v) for n, v in zip(LEVELS, row.game, strict=False)}
    return cells


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
