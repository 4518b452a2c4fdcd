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

Pairs = Iterator[tuple[np.ndarray, np.ndarray]]


def published(root: Path, name: str) -> Pairs:
    """Images and dots of a benchmark of the package."""
    for sample in BENCHMARKS[name].read(root / name):
        if sample.dots is not None:
            yield np.asarray(sample.image), np.asarray(sample.dots)


SETS = ("vgg_cells", "mbm", "adi", "dsb2018", "dsb2018_stained", "usiigaci", "chula_rbc12")


def main() -> None:
    """Prints a row for each set."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    add_arguments(parser)
    options = parser.parse_args()
    root, figures = Path(os.environ["CELLCOUNT_RAW_DIR"]), {}
    for name in options.sets:
        images, dots = map(list, zip(*published(root, name), strict=True))
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
