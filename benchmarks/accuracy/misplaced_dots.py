"""How many wrong files of dots are named in real folders, and how many right ones by mistake.

    python -m benchmarks.accuracy.misplaced_dots [--record]

Each set is looked at as published, then with the dots of the third, fourth and fifth image (of
those with the commonest size) passed on in rotation. What is named beyond these is a false alarm.
"""

import argparse
import collections
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.output import add_arguments, finish, markdown
from cellcount_jax.datasets.registry import BENCHMARKS
from cellcount_jax.datasets.usable_images.misplaced_dots import MIN_DOTS, find_misplaced
from cellcount_jax.io.annotations.dots import read_dots
from cellcount_jax.io.images.image import read_image

Pairs = Iterator[tuple[np.ndarray, np.ndarray]]


def published(root: Path, name: str) -> Pairs:
    """Images and dots of a benchmark of the package."""
    for sample in BENCHMARKS[name].read(root / name):
        if sample.dots is not None:
            yield np.asarray(sample.image), np.asarray(sample.dots)


def masked(root: Path, name: str) -> Pairs:
    """Images of a set with instance masks, dots at their centroids."""
    for path in sorted((root / name / "images").iterdir()):
        (mask,) = (root / name / "labels").glob(f"{path.stem}.*")
        yield read_image(path).pixels, read_dots(mask, format="label_mask").points


def smears(root: Path, name: str) -> Pairs:
    """Blood smears with a table `x y type` each."""
    for path in sorted((root / name / "Dataset").iterdir()):
        table = np.loadtxt(root / name / "Label" / f"{path.stem}.txt", ndmin=2)
        yield read_image(path).pixels, table[:, 1::-1]


SETS = {
    "vgg_cells": published,
    "mbm": published,
    "adi": published,
    "dsb2018": masked,
    "dsb2018_stained": masked,
    "usiigaci": masked,
    "chula_rbc12": smears,
}


def main() -> None:
    """Prints a row for each set."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    add_arguments(parser)
    options = parser.parse_args()
    root, figures = Path(os.environ["CELLCOUNT_RAW_DIR"]), {}
    for name in options.sets:
        images, dots = map(list, zip(*SETS[name](root, name), strict=True))
        names = [str(i) for i in range(len(images))]
        alarms = find_misplaced(images, dots, names)
        sizes = collections.Counter(image.shape for image in images)
        common = sizes.most_common(1)[0][0]
        rows = [i for i, d in enumerate(dots) if images[i].shape == common and len(d) >= MIN_DOTS][
            2:5
        ]
        turned = list(dots)
        for row, other in zip(rows, rows[1:] + rows[:1], strict=True):
            turned[row] = dots[other]
        found = find_misplaced(images, turned, names)
        figures[name] = {
            "images": len(images),
            "false alarms": len(alarms),
            "moved": len(rows),
            "named": sum(str(row) in found for row in rows),
            "false alarms then": len(found.keys() - {str(row) for row in rows}),
        }
        print(name, figures[name], list(alarms)[:8], flush=True)
    head = ["set", *next(iter(figures.values()))]
    table = markdown(head, [[name, *map(str, row.values())] for name, row in figures.items()])
    finish(options, "misplaced_dots", figures, table)


if __name__ == "__main__":
    main()
