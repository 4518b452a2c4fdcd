"""How well `cellcount train` counts the eleventh image, from ten annotated ones of each set.

    python -m benchmarks.accuracy.ten_images --half A --sets mbm  # while choosing settings
    python -m benchmarks.accuracy.ten_images --half B --draws 3 --record    # once, for the record

Every set is divided once into two halves by slide, donor, embryo, else at random
(`halves.json`). From a half, a draw takes `--images` images at random to train on with nothing
but the lab's command, and counts others of the same half (at most `--tests`). Beside it: the
bundled model, Otsu and splitting, the Laplacian of Gaussian at the true diameter where masks
tell it, and the mean count of the images trained on. MAPE is that of images with at least 20
cells. Each run is a line in `--out`/ten_images.jsonl; runs that are there are not repeated.
"""

import argparse
import json
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from etils import epath

from benchmarks.accuracy.ten_images import sets
from benchmarks.accuracy.ten_images.measure import by_counter, errors
from benchmarks.output import markdown
from cellcount_jax.annotation import propose
from cellcount_jax.data.sample import Sample
from cellcount_jax.inference.counter import Counter
from cellcount_jax.inference.image_argument import ArrayReader
from cellcount_jax.runtime.environment import git_revision
from cellcount_jax.runtime.setup import configure_process
from cellcount_jax.simulation.write_folder import write_folder
from cellcount_jax.training.lab import train_folder


def main() -> None:
    """Runs what is asked for and prints a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--half", choices="AB", default="A")
    parser.add_argument("--sets", nargs="+", choices=list(sets.SETS), default=list(sets.SETS))
    parser.add_argument("--images", type=int, default=10, help="trained on")
    parser.add_argument("--draws", type=int, default=1)
    parser.add_argument("--tests", type=int, default=30, help="most images that are counted")
    parser.add_argument("--steps", type=int, help="of training; default that of the command")
    parser.add_argument("--keep", action="store_true", help="keep the runs in OUT/models")
    parser.add_argument("--no-rivals", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("runs/ten_images"))
    options = parser.parse_args()
    configure_process()
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "ten_images.jsonl"
    for name in options.sets:
        samples = sets.read_half(name, options.half)
        for draw in range(options.draws):
            key = {"set": name, "half": options.half, "images": options.images, "draw": draw}
            lines = [json.loads(t) for t in path.read_text().splitlines()] if path.exists() else []
            if any(all(line[k] == v for k, v in key.items()) for line in lines):
                continue
            found = run(name, samples, draw, options)
            with path.open("a") as file:
                file.write(json.dumps({**key, "commit": git_revision(), "by": found}) + "\n")
    print(table([json.loads(t) for t in path.read_text().splitlines()]))


def run(
    name: str, samples: list[Sample], draw: int, options: argparse.Namespace
) -> dict[str, dict[str, Any]]:
    """Errors of every method on one draw."""
    order = np.random.default_rng(draw).permutation(len(samples))
    chosen = [samples[i] for i in order[: options.images]]
    tests = [samples[i] for i in order[options.images :][: options.tests]]
    diameter = sets.true_diameter(samples)
    radius = sets.SETS[name].radius or (diameter or 10.0) / 2
    found: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        start = time.monotonic()
        write_folder(Path(folder), chosen, format=_format(chosen), record={})
        workdir = epath.Path(folder) / "run"
        train_folder.train_folder(Path(folder), workdir, steps=options.steps, seed=draw)
        seconds = time.monotonic() - start
        counted = by_counter(Counter.load(str(workdir)), tests)
        if options.keep:
            kept = options.out / "models" / f"{name}_{options.half}_{options.images}_{draw}"
            shutil.copytree(str(workdir), kept, dirs_exist_ok=True)
    found["cellcount train"] = errors(*counted, tests, radius) | {"seconds": round(seconds, 1)}
    mean = float(np.mean([s.count or 0 for s in chosen]))
    found["mean"] = errors([mean] * len(tests), None, tests, radius)
    if options.no_rivals:
        return found
    for method in ("otsu", "log"):
        points = [by_image(sample, method, diameter, dark=sets.SETS[name].dark) for sample in tests]
        found[method] = errors([len(p) for p in points], points, tests, radius)
    try:
        found["bundled"] = errors(*by_counter(Counter.load("nuclei"), tests), tests, radius)
    except ValueError as error:
        found["bundled"] = {"refused": str(error)}
    return found


def _format(samples: list[Sample]) -> str:
    plain = samples[0].image.ndim == 3 and samples[0].image.dtype == np.uint8
    return "png" if plain else "tiff"


def by_image(sample: Sample, method: str, diameter: float | None, *, dark: bool) -> np.ndarray:
    """Points of plain image processing."""
    image = ArrayReader(sample.image, sample.image.ndim - 1)
    size = diameter if method == "log" else None
    return propose.classical(image, method=method, diameter=size, dark=dark).points


def table(lines: list[dict[str, Any]]) -> str:
    """A row per set, size of draw and method: means over draws."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for line in lines:
        for method, found in line["by"].items():
            key = (line["set"], line["half"], line["images"], method)
            groups.setdefault(key, []).append(found)
    keys = ("mae", "mape", "bias", "f1", "apart", "seconds", "cells")
    rows = [[*map(str, key), *(_mean(found, k) for k in keys)] for key, found in groups.items()]
    return markdown(["set", "half", "images", "method", *keys], rows)


def _mean(found: list[dict[str, Any]], key: str) -> str:
    values = [f[key] for f in found if f.get(key) is not None]
    return f"{np.mean(values):.3f}" if values else "-"


if __name__ == "__main__":
    main()
