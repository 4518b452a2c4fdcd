"""Seconds of the bundled model on one 2048x2048 image, compared with its network in plain PyTorch.

    python -m benchmarks.speed.bundled_against_torch --torch-python VENV/bin/python  # five minutes

The image is synthetic, its nuclei as wide as those that the network was trained on, so that it sees
2048x2048 pixels. Ours is `Counter.count` in one warm process: intensity range, cell diameter
(`estimated`: with the resizing by it), windows, network, peaks. PyTorch's is the network alone, on
the same normalised pixels at once. First both maps must agree; then the fastest PyTorch variant is
timed alternately with us. The ratio of each pair is PyTorch's seconds over ours, above 1 where we
are faster.

Writes bundled_against_torch.json and bundled_against_torch.md.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import traverse_util
from ml_collections import ConfigDict

from benchmarks.output import add_arguments, finish, markdown, median_and_range, shown
from benchmarks.speed.against_torch import (
    PAUSE,
    TOLERANCE,
    VARIANTS,
    UnequalError,
    difference,
)
from benchmarks.speed.network_cases import unet_options
from benchmarks.speed.torch_reference.client import Worker
from cellcount_jax.data.preprocess import preprocess
from cellcount_jax.inference import bundled
from cellcount_jax.inference.counter import Counter
from cellcount_jax.runtime import sharding
from cellcount_jax.runtime.setup import use_huge_pages


def bright_discs(side: int, diameter: float, *, seed: int = 0) -> np.ndarray:
    """Bright discs on a dark background with noise, [side, side] uint8."""
    rng = np.random.default_rng(seed)
    image = rng.normal(20, 4, (side, side))
    reach = int(diameter)
    box_ = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    for y, x in rng.uniform(reach + 1, side - reach - 2, (side * side // 1500, 2)):
        depth = diameter / 2 - np.hypot(box_[0] - y % 1, box_[1] - x % 1)
        at = np.s_[int(y) - reach : int(y) + reach + 1, int(x) - reach : int(x) + reach + 1]
        image[at] = np.maximum(image[at], 110 * np.clip(depth + 0.5, 0, 1))
    return np.clip(image, 0, 255).astype(np.uint8)


def load_twin(counter: Counter, pixels: np.ndarray, twin: Worker, folder: Path) -> None:
    """Sends the counter's weights and the normalised image to PyTorch."""
    parts = {
        "params": counter.variables.trained,
        "batch_stats": counter.variables.model_state["batch_stats"],
        "images": {"image": preprocess(pixels[..., None], counter.preprocessing)[None]},
    }
    arrays = traverse_util.flatten_dict(parts, sep="/")
    path = folder / "twin.npz"
    np.savez(path, **{name: np.asarray(value) for name, value in arrays.items()})
    options = unet_options(ConfigDict(counter.facts["config"]))
    twin("load", network="unet", options=options, path=str(path))


def check(counter: Counter, pixels: np.ndarray, twin: Worker, folder: Path) -> float:
    """Largest difference of the two maps of the whole image, relative to the largest value.

    Raises:
      UnequalError: It is too large.
    """
    twin("outputs", path=str(folder / "outputs.npz"))
    with np.load(folder / "outputs.npz") as arrays:
        expected = arrays["density"][0]
    found = difference(counter.count(pixels).maps["density"], expected)
    if not found <= TOLERANCE:
        raise UnequalError(f"maps differ by {found:.1e} of the largest value")
    return found


def seconds_of(run: Callable[[], Any]) -> float:
    """Seconds of one run."""
    time.sleep(PAUSE)
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def measure(model: str, side: int, pairs: int, torch_python: str) -> dict[str, Any]:
    """Seconds of both ways of counting and of PyTorch's network."""
    counter = Counter.load(model)
    diameter = counter.resampling.cell_diameter
    assert diameter is not None
    pixels = bright_discs(side, diameter)
    given = counter.with_cell_diameter(diameter)
    with Worker(torch_python) as twin, tempfile.TemporaryDirectory() as folder:
        load_twin(counter, pixels, twin, Path(folder))
        apart = check(given, pixels, twin, Path(folder))
        choice = twin("choose", what="predict", dtype="float32", names=list(VARIANTS))
        cells, scale = counter.count(pixels).count, counter.count(pixels).scale
        rows = []
        for _ in range(pairs):
            row = {"ours": seconds_of(lambda: given.count(pixels))}
            time.sleep(PAUSE)
            row["torch"] = twin("time", n=1)["seconds"]
            rows.append(row | {"estimated": seconds_of(lambda: counter.count(pixels))})
        about = twin("describe")
    return {
        "device": sharding.describe_device(),
        "jax": jax.__version__,
        "torch_version": about["torch"],
        "side": side,
        "cells": cells,
        "estimated_scale": scale,
        "largest_difference": apart,
        "torch_variant": choice["variant"],
        "torch_variant_seconds": choice["seconds"],
        **{key: median_and_range([r[key] for r in rows]) for key in ("ours", "estimated", "torch")},
        "ratio": median_and_range([r["torch"] / r["ours"] for r in rows]),
        "ratio_estimated": median_and_range([r["torch"] / r["estimated"] for r in rows]),
        "pairs": rows,
    }


def table(found: dict[str, Any]) -> str:
    """Markdown."""
    side, pairs = found["side"], len(found["pairs"])
    about = (
        f"One {side}x{side} image, {found['cells']:.0f} nuclei found; {found['device']}; jax "
        f"{found['jax']}, torch {found['torch_version']} ({found['torch_variant']}). Medians of "
        f"{pairs} alternating pairs (minimum to maximum); maps differ by "
        f"{found['largest_difference']:.0e}."
    )
    names = {
        "ours": ("count, diameter given", "ratio"),
        "estimated": (
            f"count, diameter estimated (resized by {found['estimated_scale']:.2f})",
            "ratio_estimated",
        ),
        "torch": ("the network alone in PyTorch", None),
    }
    rows = [
        [name, shown(found[key]), shown(found[ratio]) if ratio else ""]
        for key, (name, ratio) in names.items()
    ]
    head = ["", "seconds", "PyTorch's seconds / these"]
    return f"{about}\n\n{markdown(head, rows)}\n"


def main() -> None:
    """Measures, writes and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default=bundled.DEFAULT_MODEL)
    parser.add_argument("--side", type=int, default=2048)
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--torch-python", default=sys.executable, help="Python with PyTorch")
    add_arguments(parser)
    options = parser.parse_args()
    use_huge_pages()  # as the package's commands do
    found = measure(options.model, options.side, options.pairs, options.torch_python)
    finish(options, "bundled_against_torch", found, table(found))


if __name__ == "__main__":
    main()
