"""Speed of this package compared with the same networks in plain PyTorch.

    python -m benchmarks.speed.against_torch --torch-python VENV/bin/python           # all, an hour
    python -m benchmarks.speed.against_torch --networks sau_net_3d --what step --pairs 9

Fixed shapes: images 4x256x256x3 (`--batch` for another number), volumes 1x32x96x96. `predict` is
the compiled `predict` of a method's stage against the twin under `torch.inference_mode`; `step` is
`training.step` (loss, gradient, update) against loss, backward and a fused Adam; what each
minimises is in the table. CountXplain predicts from images and trains on stored features.

PyTorch runs in a process and, with `--torch-python`, an interpreter of its own. First both sides
get the same weights and must agree: maps, loss and norm of the gradient, in float32. Then every
PyTorch variant (layout, compiler) is warmed up, and the fastest is timed alternately with JAX: the
ratio of each pair is PyTorch's seconds over JAX's, above 1 where JAX is faster. bfloat16 is
compared separately, with the fastest variant under bfloat16 autocast. Both use all cores. Rates
count the operations of convolutions and matrix products in the plain network, beside the rate of
one large product.

Writes against_torch.json and against_torch.md.
"""

import argparse
import contextlib
import dataclasses
import importlib.metadata
import json
import math
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks.output import (
    add_arguments,
    finish,
    markdown,
    median_and_range,
    shown,
    write,
)
from benchmarks.speed import network_cases
from benchmarks.speed.case import Case, Settings
from benchmarks.speed.jax_programs import (
    PROGRAMS,
    matmul_rate,
    prediction,
    seconds_of,
    training_step,
)
from benchmarks.speed.torch_reference.client import Worker
from cellcount_jax.runtime import sharding
from cellcount_jax.runtime.setup import use_huge_pages

NETWORKS = ("dcl", "csrnet", "countxplain", "sau_net_2d", "sau_net_3d")
VARIANTS = (
    "eager",
    "channels_last",
    "compiled",
    "compiled, channels_last",
    "compiled, CUDA graphs",
)
TOLERANCE = 1e-4
"""Largest difference of maps and loss, relative to the largest value."""

GRADIENT_TOLERANCE = 5e-3
"""Largest relative difference of the gradient's norm: nearly constant channels, once normalised,
magnify rounding in the backward pass; PyTorch's own is 1e-3 from float64 in SAU-Net 3-D."""

PAUSE = 0.05  # seconds for the other side's threads to fall asleep


class UnequalError(ValueError):
    """A network and its twin give different results, so their speeds cannot be compared."""


def compare(name: str, settings: Settings, twin: Worker, folder: Path) -> dict[str, float]:
    """Relative differences of maps, loss and norm of the gradient on the same weights.

    Raises:
      UnequalError: A difference is too large.
    """
    # Dropout draws differ, and bfloat16 would hide differences.
    case = network_cases.build(name, dataclasses.replace(settings, dropout=0.0, dtype="float32"))
    load(case, twin, folder)
    twin("outputs", path=str(folder / "outputs.npz"))
    with np.load(folder / "outputs.npz") as arrays:
        expected = {**arrays, **twin("first_step")}
    exact = jax.default_matmul_precision("highest")
    with contextlib.nullcontext() if jax.default_backend() == "cpu" else exact:
        found = {**prediction(case)(), **training_step(case)()}
    differences = {key: difference(found[key], value) for key, value in expected.items()}
    for key, value in differences.items():
        limit = GRADIENT_TOLERANCE if key == "gradient_norm" else TOLERANCE
        if not value <= limit:
            raise UnequalError(
                f"{name}: {key} differs from PyTorch's by {value:.1e} of its largest value, more "
                f"than {limit:g}; its speed was not measured"
            )
    return differences


def difference(found: Any, expected: Any) -> float:
    """Largest difference over the largest expected value; infinite for other shapes."""
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    if found.shape != expected.shape:
        return math.inf
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def load(case: Case, twin: Worker, folder: Path) -> None:
    """Sends weights, images and batch to the twin."""
    path = folder / f"{case.name}.npz"
    np.savez(path, **case.twin_arrays())
    twin("load", network=case.name, options=case.options, path=str(path))


def measure(
    case: Case, twin: Worker, what: str, dtype: str, options: argparse.Namespace
) -> dict[str, Any]:
    """Seconds of both sides in turn, and their ratios."""
    flops = twin("flops", what=what)["flops"]
    choice = twin("choose", what=what, dtype=dtype, names=options.variants)
    started = time.perf_counter()
    advance = PROGRAMS[what](case)
    compiling = time.perf_counter() - started
    seconds_of(advance, 2)
    ours_n = runs(seconds_of(advance, 1), options.seconds)
    theirs_n = runs(choice["seconds"][choice["variant"]], options.seconds)
    pairs = []
    for _ in range(options.pairs):
        time.sleep(PAUSE)
        ours = seconds_of(advance, ours_n)
        time.sleep(PAUSE)
        pairs.append((ours, twin("time", n=theirs_n)["seconds"]))
    return {
        "jax_seconds": median_and_range([ours for ours, _ in pairs]),
        "torch_seconds": median_and_range([theirs for _, theirs in pairs]),
        "ratio": median_and_range([theirs / ours for ours, theirs in pairs]),
        "flops": flops,
        "jax_compile_seconds": compiling,
        "torch_variant": choice["variant"],
        "torch_variant_seconds": choice["seconds"],
        "torch_first_seconds": choice["first_seconds"],
        "torch_failed": choice["failed"],
        "pairs": pairs,
    }


def runs(seconds_of_one: float, seconds: float) -> int:
    """Number of runs that take at least that long."""
    return max(1, math.ceil(seconds / seconds_of_one))


def matmul_rates(twin: Worker, dtypes: list[str]) -> dict[str, dict[str, float]]:
    """Rate of one large matrix product on both sides, by dtype."""
    size = 2048 if jax.default_backend() == "cpu" else 16384
    return {
        dtype: {
            "jax": matmul_rate(dtype, size),
            "torch": twin("matmul", size=size, dtype=dtype)["flops_per_second"],
        }
        for dtype in dtypes
    }


def describe(twin: Worker, options: argparse.Namespace) -> dict[str, Any]:
    """Where and how the figures were taken."""
    theirs = twin("describe")
    versions = {p: importlib.metadata.version(p) for p in ("jax", "flax", "optax", "numpy")}
    return {
        "device": sharding.describe_device(),
        "torch_device": theirs["device"],
        "versions": {**versions, "torch": theirs["torch"]},
        "threads": {"jax": len(os.sched_getaffinity(0)), "torch": theirs["threads"]},
        "load_average_before": os.getloadavg()[0],
        "pairs": options.pairs,
        "batch_of_images": options.batch,
        "matmul_flops_per_second": matmul_rates(twin, options.dtypes),
    }


def table(results: dict[str, Any]) -> str:
    """Markdown."""
    where, versions = results["device"], results["versions"]
    about = (
        f"{where}, threads {results['threads']}, load before {results['load_average_before']:.1f}; "
        f"{', '.join(f'{k} {v}' for k, v in versions.items())}. "
        f"Images {results['batch_of_images']}x256x256x3, volumes 1x32x96x96. "
        f"Medians of {results['pairs']} alternating pairs (minimum to maximum). "
        "A ratio above 1: JAX is faster."
    )
    head = ["network", "what", "dtype", "JAX ms", "PyTorch ms", "fastest variant", "PyTorch / JAX"]
    rows = []
    peaks = {k: max(v.values()) for k, v in results["matmul_flops_per_second"].items()}
    for row in results["rows"]:
        seconds = row["jax_seconds"]["median"]
        rate = row["flops"] / seconds
        what = row["loss"] if row["what"] == "step" else ""
        cells = [
            row["network"],
            f"{row['what']}{f' ({what})' if what else ''}",
            row["dtype"],
            f"{1e3 * seconds:.4g}",
            f"{1e3 * row['torch_seconds']['median']:.4g}",
            row["torch_variant"],
            shown(row["ratio"]),
            f"{rate / 1e9:.4g}",
            f"{rate / peaks[row['dtype']]:.0%}",
        ]
        rows.append(cells)
    rates = (
        f"{dtype} {rates['jax'] / 1e9:.4g} (JAX), {rates['torch'] / 1e9:.4g} (PyTorch)"
        for dtype, rates in results["matmul_flops_per_second"].items()
    )
    worst = {name: max(found.values()) for name, found in results["equality"].items()}
    below = (
        f"Large matmul, GFLOP/s: {'; '.join(rates)}. Largest relative difference on the same "
        f"weights: {', '.join(f'{k} {v:.0e}' for k, v in worst.items())}."
    )
    measured = markdown([*head, "GFLOP/s", "relative to a large matmul"], rows)
    unequal = [f"Not measured: {line}." for line in results["unequal"]]
    return "\n\n".join([about, measured, below, *unequal]) + "\n"


def joined(earlier: dict[str, Any], results: dict[str, Any]) -> dict[str, Any]:
    """Results with the rows, and what goes with them, that an earlier run left.

    Raises:
      ValueError: It was taken elsewhere or otherwise.
    """
    for key in ("device", "torch_device", "versions", "threads", "pairs", "batch_of_images"):
        if earlier[key] != results[key]:
            raise ValueError(f"cannot append: {key} was {earlier[key]} and is {results[key]}")
    loads = (earlier["load_average_before"], results["load_average_before"])
    rates = earlier["matmul_flops_per_second"] | results["matmul_flops_per_second"]
    return {**earlier, "load_average_before": max(loads), "matmul_flops_per_second": rates}


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Options of the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    cases = sorted(network_cases.CASES)
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=cases)
    parser.add_argument("--what", nargs="+", default=["step", "predict"], choices=sorted(PROGRAMS))
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=VARIANTS)
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--batch", type=int, default=4, help="images in a batch")
    parser.add_argument("--seconds", type=float, default=0.5, help="minimum of one repetition")
    parser.add_argument("--torch-python", default=sys.executable, help="Python with PyTorch")
    parser.add_argument("--append", action="store_true", help="add to the table in --out")
    add_arguments(parser)
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """Compares, measures, writes and prints."""
    options = parse(arguments)
    # Two processes share a GPU.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    use_huge_pages()  # as the package's commands do
    with Worker(options.torch_python) as twin, tempfile.TemporaryDirectory() as folder:
        results: dict[str, Any] = describe(twin, options)
        results |= {"equality": {}, "unequal": [], "rows": []}
        if options.append:
            earlier = json.loads((options.out / "against_torch.json").read_text())
            results = joined(earlier, results)
        for name in options.networks:
            settings = Settings(batch=options.batch)
            try:
                results["equality"][name] = compare(name, settings, twin, Path(folder))
            except UnequalError as error:
                print(error, flush=True)
                results["unequal"].append(str(error))
                continue
            for dtype in options.dtypes:
                case = network_cases.build(name, dataclasses.replace(settings, dtype=dtype))
                load(case, twin, Path(folder))
                for what in options.what:
                    row = {"network": name, "what": what, "dtype": dtype}
                    row["loss"] = network_cases.LOSSES[name]
                    print(name, what, dtype, flush=True)
                    results["rows"].append(row | measure(case, twin, what, dtype, options))
                    # After every row, so that an interrupted run leaves what it has.
                    write(options.out, "against_torch", results, table(results))
    finish(options, "against_torch", results, table(results))
    if results["unequal"]:
        sys.exit(1)


if __name__ == "__main__":
    main()
