"""Images on the disk, and rows of tables, for the tests of this folder."""

import csv
from pathlib import Path

import numpy as np
from PIL import Image


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def save(path: Path, seed: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 200, (40, 32), np.uint8)
    Image.fromarray(pixels).save(path)
    return path
