"""How good proposed dots are, and how many clicks their correction takes.

    python -m benchmarks.accuracy.proposals [--model usiigaci=runs/usiigaci] [--record]

The first ten images of VGG and Usiigaci in the order of their names and one volume of BBBC050,
by Otsu and splitting, by the Laplacian of Gaussian, and by a model (the bundled one where no other
is given). Cell size is estimated by each method itself. Points match dots within 5 pixels (VGG) or
half the median diameter of the true cells; what is left over are the dots to delete and to add.
"""

import argparse
import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.accuracy.ten_images import sets
from benchmarks.output import add_arguments, finish, markdown
from cellcount_jax.annotation import propose
from cellcount_jax.datasets.registry import BENCHMARKS
from cellcount_jax.evaluation.matching import match_points
from cellcount_jax.evaluation.metrics import localisation
from cellcount_jax.inference.bundled import DEFAULT_MODEL
from cellcount_jax.inference.counter import Counter
from cellcount_jax.inference.image_argument import ArrayReader
from cellcount_jax.io.annotations.dots import read_dots
from cellcount_jax.io.images.image import read_image
from cellcount_jax.runtime.setup import configure_process

N_IMAGES = 10


class Truth(NamedTuple):
    """An image with its true cells and the radius in which points match them."""

    pixels: np.ndarray
    dots: np.ndarray
    radius: float
    spacing: tuple[float, ...] | None = None


def vgg(root: Path) -> Iterator[Truth]:
    """The first images of VGG."""
    for path in sorted((root / "vgg_cells").glob("*cell.png"))[:N_IMAGES]:
        dots = read_dots(path.with_name(path.name.replace("cell", "dots")), format="dots_image")
        yield Truth(read_image(path).pixels, dots.points, 5.0)


def masked(name: str, number: int) -> Any:
    """The first images of a set with instance masks."""

    def images(root: Path) -> Iterator[Truth]:
        for sample in itertools.islice(BENCHMARKS[name].read(root / name), number):
            diameter = sets.true_diameter([sample])
            assert sample.dots is not None
            assert diameter is not None
            yield Truth(sample.image, sample.dots, diameter / 2, sample.spacing)

    return images


SETS: dict[str, Callable[[Path], Iterator[Truth]]] = {
    "vgg_cells": vgg,
    "usiigaci": masked("usiigaci", N_IMAGES),
    "bbbc050": masked("bbbc050", 1),
}


def proposed(method: str, truth: Truth, counter: Counter | None) -> np.ndarray | None:
    """The dots that a method proposes; None if it cannot."""
    image = ArrayReader(truth.pixels, truth.pixels.ndim - 1)
    if method != "model":
        return propose.classical(image, method=method).points
    try:
        assert counter is not None
        found = propose.by_model(counter, image, spacing=truth.spacing)
    except ValueError:
        return None
    return found.points[found.scores >= found.threshold]


def measure(name: str, root: Path, model: str) -> dict[str, dict[str, float] | None]:
    """F1 and clicks per 100 cells of each method on a set."""
    counter, images = Counter.load(model), list(SETS[name](root))
    found: dict[str, dict[str, float] | None] = {}
    for method in propose.METHODS:
        points = [proposed(method, truth, counter) for truth in images]
        if any(p is None for p in points):
            found[method] = None
            continue
        matches = [
            match_points(p, truth.dots, radius=truth.radius, spacing=truth.spacing)
            for p, truth in zip(points, images, strict=True)
        ]
        sums = localisation(matches)
        cells = sums["tp"] + sums["fn"]
        found[method] = {
            "f1": sums["f1"],
            "adds": 100 * sums["fn"] / cells,
            "deletes": 100 * sums["fp"] / cells,
            "cells": cells,
            "images": len(images),
        }
    return found


def table(found: dict[str, Any]) -> str:
    """A row per set."""
    rows = []
    for name, methods in found.items():
        cells = ["-" if m is None else _cell(m) for m in methods.values()]
        rows.append([name, *cells])
    head = ["set", *(f"{m}: F1, adds + deletes per 100 cells" for m in propose.METHODS)]
    return markdown(head, rows)


def _cell(one: dict[str, float]) -> str:
    clicks = one["adds"] + one["deletes"]
    return f"{one['f1']:.3f}, {one['adds']:.0f} + {one['deletes']:.0f} = {clicks:.0f}"


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", nargs="*", default=[], metavar="SET=MODEL")
    parser.add_argument("--sets", nargs="*", default=list(SETS), choices=list(SETS))
    add_arguments(parser)
    options = parser.parse_args()
    configure_process()
    models = dict(text.split("=", 1) for text in options.model)
    root = Path(os.environ["CELLCOUNT_RAW_DIR"])
    found = {n: measure(n, root, models.get(n, DEFAULT_MODEL)) for n in options.sets}
    finish(options, "proposals", found, table(found))


if __name__ == "__main__":
    main()
