"""IDCIA: immunocytochemistry of hippocampal progenitor cells, 800 x 600, by stain."""

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from cellcount_jax.data.sample import Sample
from cellcount_jax.datasets.base import Benchmark, Published, by_name, matching_file, read_pixels
from cellcount_jax.datasets.splits import Protocol


def read(folder: Path) -> Iterator[Sample]:
    """Pairs `images/STAIN/NAME.tiff`, `ground_truth/STAIN/NAME.csv`; the group is the stain."""
    for path in sorted((folder / "images").glob("*/*.tif*")):
        stain = path.parent.name
        table = matching_file(folder / "ground_truth" / stain / f"{path.stem}.csv", path)
        image = read_pixels(path, "L")
        dots = read_columns(table, ("Y", "X"))
        outside = ((dots < -0.5) | (dots >= np.array(image.shape[:2]) - 0.5)).any(axis=1)
        if outside.any():
            line = int(outside.argmax()) + 2
            y, x = dots[outside.argmax()]
            height, width = image.shape[:2]
            raise ValueError(
                f"{table}, line {line}: dot (y={y:g}, x={x:g}) lies outside the image "
                f"({height} high, {width} wide)"
            )
        yield Sample(f"{stain}/{path.stem}", image, dots, group=stain)


def read_columns(path: Path, columns: tuple[str, ...]) -> np.ndarray:
    """[N, len(columns)] float32 of a comma-separated table, columns found by name.

    Raises:
      ValueError: a column is missing, or a value is no finite number.
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


IDCIA = Benchmark(
    name="idcia",
    title="immunocytochemistry of adult hippocampal progenitor cells",
    ndim=2,
    channels=1,
    dtype="uint8",
    page="https://figshare.com/articles/dataset/Dataset/21970604",
    licence="see its page",
    citation="Mohammed et al., IDCIA: immunocytochemistry dataset for cellular image analysis, "
    "ACM MMSys 2023",
    raw_layout="images/STAIN/NAME.tiff and ground_truth/STAIN/NAME.csv (columns X and Y in pixels)",
    published=Published(119, 141.0, 120.0, group="DAPI"),
    read=read,
    protocols=by_name(
        Protocol("countxplain", "CountXplain (MIDL 2025)", train=100, test=19, only=("DAPI",)),
        Protocol("all_stains", "every stain divided alike", train=100, test=19, unit="stratified"),
    ),
    default_protocol="countxplain",
)
