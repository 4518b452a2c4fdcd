"""Peak memory and rate on images larger than memory should hold.

    python -m benchmarks.speed.large_images --side 2000                       # a minute or two
    python -m benchmarks.speed.large_images --model RUN                       # 20,000 x 20,000 TIFF
    python -m benchmarks.speed.large_images --model RUN --kind zarr
    python -m benchmarks.speed.large_images --model RUN --kind volume --part 0.02  # 512x4096x4096

The image consists of simulated cells, one block repeated with varying intensity, so that no tile
is empty. It is written to a temporary folder (or to `--folder`, where a second call finds it) and
counted in a separate process, whose peak resident memory from import to result is reported. With
`--part` counting stops after that share of the windows, and the seconds for the whole image are
extrapolated, which the output says; with `--part 0` the image is only written. Without `--model`
the default counter (for volumes a small SAU-Net) has random weights: as fast as a trained one, but
its counts mean nothing.

Prints one JSON object; `--out` also writes it to a file.
"""

import argparse
import contextlib
import dataclasses
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

BLOCK = {"tiff": (512, 512), "zarr": (512, 512), "volume": (64, 128, 128)}
SHAPE = {"tiff": (20_000, 20_000), "zarr": (20_000, 20_000), "volume": (512, 4096, 4096)}


class _EnoughError(Exception):
    """The requested part has been counted."""


def make(kind: str, shape: tuple[int, ...], path: Path) -> None:
    """Writes an image of simulated cells, block by block."""
    from cellcount_jax.simulation.simulate import simulate_cells

    preset = "light_sheet" if kind == "volume" else "vgg"
    block = simulate_cells(0, BLOCK[kind], preset=preset)[0]
    block = block[..., 0] if kind == "volume" else block.mean(axis=-1).astype(np.uint8)
    if kind == "tiff":
        _write_tiff(path, shape, block)
    else:
        _write_zarr(path, shape, block)


def true_cells(kind: str, shape: tuple[int, ...]) -> int:
    """Cells in whole blocks, about as many as in the image, whose last blocks are cut."""
    from cellcount_jax.simulation.simulate import simulate_cells

    preset = "light_sheet" if kind == "volume" else "vgg"
    n = len(simulate_cells(0, BLOCK[kind], preset=preset)[1])
    return round(n * math.prod(shape) / math.prod(BLOCK[kind]))


def _intensity(number: int) -> float:
    return 0.6 + 0.4 * ((number * 37) % 100) / 100


def _write_tiff(path: Path, shape: tuple[int, ...], block: np.ndarray) -> None:
    import tifffile

    number = math.prod(-(-n // b) for n, b in zip(shape, block.shape, strict=True))

    def tiles() -> Iterator[np.ndarray]:
        for i in range(number):
            yield (block * _intensity(i)).astype(block.dtype)

    options: dict[str, Any] = {"tile": block.shape, "compression": "zlib"}
    tifffile.imwrite(path, tiles(), shape=shape, dtype=block.dtype, bigtiff=True, **options)


def _write_zarr(path: Path, shape: tuple[int, ...], block: np.ndarray) -> None:
    import tensorstore as ts

    store = ts.open(
        {
            "driver": "zarr3",
            "kvstore": {"driver": "file", "path": f"{path}/"},
            "metadata": {
                "shape": list(shape),
                "chunk_grid": {
                    "name": "regular",
                    "configuration": {"chunk_shape": list(block.shape)},
                },
                "data_type": str(block.dtype),
                "dimension_names": list("zyx"[3 - len(shape) :]),
                "codecs": [{"name": "zstd", "configuration": {"level": 1}}],
            },
            "create": True,
        }
    ).result()
    blocks = [range(0, n, b) for n, b in zip(shape, block.shape, strict=True)]
    corners = np.stack(np.meshgrid(*blocks, indexing="ij"), axis=-1).reshape(-1, len(shape))
    for i, corner in enumerate(corners.tolist()):
        box = tuple(
            slice(a, min(a + b, n)) for a, b, n in zip(corner, block.shape, shape, strict=True)
        )
        part = block[tuple(slice(0, b.stop - b.start) for b in box)]
        store[box].write((part * _intensity(i)).astype(block.dtype)).result()


def untrained(kind: str) -> Any:
    """A counter with random weights, whose threshold is such that it finds points."""
    import jax
    import jax.numpy as jnp

    from cellcount_jax import defaults
    from cellcount_jax.data.preprocess import Preprocessing
    from cellcount_jax.inference.counter import Counter
    from cellcount_jax.methods import build_stages
    from configs import consistency_light_sheet

    volume = kind == "volume"
    config = consistency_light_sheet.get_config("quick") if volume else defaults.density()
    stage = build_stages(config)[-1]
    image = jnp.zeros((1, *(16,) * (3 if volume else 2), config.preprocessing.channels))
    batch = {"labelled": {"image": image}}
    # Shapes alone: compiling the initialisation takes longer than all else.
    shapes = jax.eval_shape(lambda key: stage.init(key, batch, {}), jax.random.key(0))
    variables = jax.tree_util.tree_map_with_path(_random, shapes)
    readout = dataclasses.replace(stage.readout, single_cell_peak=None, threshold=0.7)
    stage = dataclasses.replace(stage, readout=readout)
    preprocessing = Preprocessing(channels=config.preprocessing.channels, normalise="percentile")
    return Counter(stage, variables, preprocessing)


def _random(path: Any, leaf: Any) -> np.ndarray:
    """Weights that keep the signal's size, scales and variances of 1, all else 0."""
    name = getattr(path[-1], "key", "")
    if name == "kernel":
        spread = math.sqrt(2 / math.prod(leaf.shape[:-1]))
        return np.random.default_rng(len(path)).normal(0, spread, leaf.shape).astype(leaf.dtype)
    return np.full(leaf.shape, float(name in ("scale", "var")), leaf.dtype)


def count(path: Path, kind: str, model: str | None, part: float) -> dict[str, Any]:
    """Counts an image, or a part of its windows, in this process."""
    from cellcount_jax.inference.counter import Counter
    from cellcount_jax.io.images.image import open_lazy
    from cellcount_jax.runtime.setup import use_huge_pages

    begin = time.monotonic()
    use_huge_pages()  # as the package's commands do
    counter = Counter.load(model) if model else untrained(kind)
    marks: list[float] = []
    memory: list[int] = []
    found, total = None, 0

    def on_window(done: int, of: int) -> None:
        nonlocal total
        marks.append(time.monotonic())
        memory.append(_peak_mib())
        total = of
        if done >= math.ceil(part * of) and done < of:
            raise _EnoughError

    with open_lazy(path) as image:
        pixels = math.prod(image.space_shape)
        opened = time.monotonic()
        with contextlib.suppress(_EnoughError):
            found = counter.count_open(image, in_memory=False, on_window=on_window)
    seconds = time.monotonic() - opened
    # Compilation and the first pass over the intensities come before the first window is done.
    first = marks[0] - opened
    later = marks[-1] - marks[0]
    each = later / max(1, len(marks) - 1)
    # Windows of one batch are done at once: too short a part says nothing of the rest.
    rest = each * (total - 1) if later > 1 else seconds * (total / len(marks) - 1)
    whole = seconds if found is not None else first + rest
    return {
        "shape": list(image.space_shape),
        "windows": total,
        "windows_counted": len(marks),
        "seconds_start": round(opened - begin, 2),
        "seconds_to_first_window": round(first, 2),
        "seconds": round(whole, 1),
        "seconds_are_extrapolated": found is None,
        "megapixels_per_second": round(pixels / 1e6 / whole, 3),
        "count": None if found is None else round(found.count, 1),
        "n_points": None if found is None or found.points is None else len(found.points),
        "true_cells": true_cells(kind, image.space_shape),
        # Where memory does not grow, the peak is reached early on.
        "peak_rss_mib_after_a_tenth": memory[len(memory) // 10],
        "peak_rss_mib": _peak_mib(),
    }


def _peak_mib() -> int:
    """Greatest resident memory of this process so far."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def main() -> None:
    """Makes the image, counts it in a process of its own, prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kind", choices=sorted(SHAPE), default="tiff")
    parser.add_argument("--side", type=int, help="of a smaller image; volumes get a quarter deep")
    parser.add_argument("--model", help="a finished run or a model file")
    parser.add_argument("--part", type=float, default=1.0, help="share of the windows to count")
    parser.add_argument("--folder", type=Path, help="keeps the image; default: a temporary one")
    parser.add_argument("--out", type=Path, help="JSON file")
    parser.add_argument("--image", type=Path, help="count this one, in this process")
    options = parser.parse_args()
    if options.image is not None:
        print(json.dumps(count(options.image, options.kind, options.model, options.part)))
        return
    shape = SHAPE[options.kind]
    if options.side:
        shape = (options.side // 4,) * (len(shape) - 2) + (options.side,) * 2
    with contextlib.ExitStack() as stack:
        folder = options.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        sides = "x".join(map(str, shape))
        path = folder / f"{sides}.{'tif' if options.kind == 'tiff' else 'zarr'}"
        if not path.exists():
            make(options.kind, shape, path)
        if not options.part:
            return
        command = [sys.executable, "-m", "benchmarks.speed.large_images", "--image", str(path)]
        command += ["--kind", options.kind, "--part", str(options.part)]
        command += ["--model", options.model] if options.model else []
        found = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    figures = json.loads(found.stdout.splitlines()[-1])
    figures = {"kind": options.kind, "cores": os.cpu_count(), **figures}
    if figures["seconds_are_extrapolated"]:
        share = figures["windows_counted"] / figures["windows"]
        print(f"seconds and rate are extrapolated from {share:.1%} of the windows", file=sys.stderr)
    print(json.dumps(figures, indent=2))
    if options.out:
        options.out.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
