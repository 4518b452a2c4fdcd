"""Chula RBC-12: red blood cells in stained smears."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from cellcount_jax.data.sample import Sample
from cellcount_jax.datasets.base import Benchmark, Published, by_name, matching_file, read_pixels
from cellcount_jax.datasets.splits import Protocol


def read(folder: Path) -> Iterator[Sample]:
    """Images in `Dataset`, and in `Label` a line `x y type` for each cell; types are not read."""
    for path in sorted((folder / "Dataset").glob("*.jpg")):
        labels_path = matching_file(folder / "Label" / f"{path.stem}.txt", path)
        yield Sample(path.stem, read_pixels(path, channels=3), _dots(labels_path))


def _dots(path: Path) -> np.ndarray:
    """Dots [N, 2] float32, (y, x)."""
    dots = []
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        try:
            if line.strip():
                x, y = map(float, line.split()[:2])
                dots.append((y, x))
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: {line!r} is not `x y type`") from error
    return np.asarray(dots, np.float32).reshape(-1, 2)


CHULA_RBC12 = Benchmark(
    name="chula_rbc12",
    title="red blood cells in stained smears",
    page="https://github.com/Chula-PIC-Lab/Chula-RBC-12-Dataset",
    licence="MIT",
    citation="Naruenatthanaset et al., Red Blood Cell Segmentation with Overlapping Cell "
    "Separation and Classification on Imbalanced Dataset, 2021",
    raw_layout="Dataset/N.jpg and Label/N.txt, a line `x y type` for each cell",
    published=Published(706),
    read=read,
    protocols=by_name(
        Protocol("random", "images at random", train=35, test=18, validation=6),
    ),
)
