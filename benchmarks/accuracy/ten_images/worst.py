"""Draws the images with the greatest errors of counters that the benchmark kept.

    python -m benchmarks.accuracy.ten_images --half B --sets dsb2018_stained --keep
    python -m benchmarks.accuracy.ten_images.worst   # runs/ten_images/worst/*.png

Rings are true dots, crosses are points found. The greatest errors are those relative to the true
count, or to `MIN_CELLS` where there are fewer.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.accuracy.ten_images import sets
from benchmarks.accuracy.ten_images.measure import MIN_CELLS
from cellcount_jax.data.sample import Sample
from cellcount_jax.inference.counter import Counter
from cellcount_jax.reporting import figures
from cellcount_jax.reporting.overlays import overlay, shortened
from cellcount_jax.runtime.setup import configure_process


def main() -> None:
    """Draws the worst images of each kept counter."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--out", type=Path, default=Path("runs/ten_images"), help="of the benchmark"
    )
    parser.add_argument("--number", type=int, default=3, help="of images of each counter")
    options = parser.parse_args()
    configure_process()
    folder = options.out / "worst"
    folder.mkdir(exist_ok=True)
    for text in (options.out / "ten_images.jsonl").read_text().splitlines():
        line = json.loads(text)
        name = "{set}_{half}_{images}_{draw}".format(**line)
        model = options.out / "models" / name
        if not model.exists():
            continue
        counter, samples = Counter.load(str(model)), sets.read_half(line["set"], line["half"])
        for rank, image in enumerate(worst(line, options.number)):
            sample = next(s for s in samples if s.name == image)
            path = folder / f"{name}_{rank}.png"
            path.write_bytes(drawn(counter, sample))
            print(path, flush=True)


def worst(line: dict[str, Any], number: int) -> list[str]:
    """Names of the images with the greatest relative errors in a line of the benchmark."""
    images = line["by"]["cellcount train"]["images"]
    true, count = np.array(images["true"]), np.array(images["count"])
    errors = np.abs(count - true) / np.maximum(true, MIN_CELLS)
    return [images["name"][i] for i in np.argsort(-errors)[:number]]


def drawn(counter: Counter, sample: Sample) -> bytes:
    """An image with its dots and points, as PNG."""
    found = counter.count(sample.image, spacing=sample.spacing)
    title = f"{shortened(sample.name)}\ntrue {sample.count}, counted {found.count:.1f}"
    points = None if found.points is None else np.asarray(found.points)
    if points is not None and len(points) != found.count:
        title += f", {len(points)} points"
    figure = overlay(
        sample.image, points, dots=sample.dots, title=title, width=7.0, spacing=sample.spacing
    )
    return figures.png(figure, dpi=110)


if __name__ == "__main__":
    main()
