"""Errors of the bundled models on images that were held out from their training.

    python -m benchmarks.accuracy.bundled --record                    # the files in the package
    python -m benchmarks.accuracy.bundled --models tissue=runs/tissue

Each test image is counted as `cellcount predict` does, at the size that it has. Points match dots
within half the median true diameter of the set where masks tell it, else within 20 pixels (Chula
RBC-12). MAPE is that of images with at least 20 cells. The nuclei model has a benchmark of its
own, `benchmarks.accuracy.nuclei`.
"""

import argparse
from typing import Any

from benchmarks.accuracy.ten_images.measure import by_counter, errors
from benchmarks.accuracy.ten_images.sets import true_diameter
from benchmarks.output import add_arguments, finish, markdown
from cellcount_jax.datasets import load
from cellcount_jax.inference.counter import Counter
from cellcount_jax.runtime.setup import configure_process

MODELS = ("tissue", "phase", "blood", "nuclei3d")

RADIUS = 20.0
"""Matching radius in pixels where no mask tells the size of cells."""

N_WORST = 3

COLUMNS = ("images", "cells", "mae", "mape", "bias", "f1", "apart")


def measure(model: str) -> dict[str, Any]:
    """Figures over the test split and each group in it, and the worst images.

    Args:
      model: Name of a bundled model, a model file or a run.
    """
    counter = Counter.load(model)
    config = counter.facts["config"]
    source = load.load_dataset(
        config["data"]["name"], protocol=config["data"]["protocol"], seed=config["seed"]
    )
    tests = sorted(source.splits["test"], key=lambda s: s.name)
    diameter = true_diameter(tests)
    radius = diameter / 2 if diameter else RADIUS
    counts, points = by_counter(counter, tests)
    by = {}
    for group in ("", *sorted({s.group for s in tests if s.group})):
        rows = [i for i, s in enumerate(tests) if group in ("", s.group)]
        found = errors(
            [counts[i] for i in rows],
            [points[i] for i in rows],
            [tests[i] for i in rows],
            radius,
        )
        by[group or "all"] = {"images": len(rows)} | {k: found[k] for k in COLUMNS if k != "images"}
        if not group:
            images = found["images"]
    off = sorted(range(len(tests)), key=lambda i: -abs(counts[i] - images["true"][i]))
    worst = [(tests[i].name, images["true"][i], round(counts[i], 1)) for i in off[:N_WORST]]
    return {"data": source.description, "radius": radius, "by": by, "worst": worst, "per": images}


def table(found: dict[str, dict[str, Any]]) -> str:
    """A row for each model and group."""
    rows = [
        [model, group, *("-" if figures[key] is None else f"{figures[key]:.4g}" for key in COLUMNS)]
        for model, result in found.items()
        for group, figures in result["by"].items()
    ]
    lines = [f"worst of {model}: {result['worst']}" for model, result in found.items()]
    return "\n".join([markdown(["model", "group", *COLUMNS], rows), "", *lines])


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", nargs="+", default=list(MODELS), help="NAME or NAME=RUN")
    add_arguments(parser)
    options = parser.parse_args()
    configure_process()
    pairs = [text.partition("=") for text in options.models]
    found = {name: measure(run or name) for name, _, run in pairs}
    finish(options, "bundled", found, table(found))


if __name__ == "__main__":
    main()
