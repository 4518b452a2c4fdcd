"""Training steps of DCL and SAU-Net in bfloat16, as a share of the card's matrix-product rate.

    python -m benchmarks.gpu.speed --batches 8 64 --seconds 50 --out runs/gpu/speed.json

A step is `training.step` (loss, gradient, update) on a batch in device memory; its operations are
those of the program before it is optimised. Where
PyTorch is installed, its fastest variant of the same step is measured beside it. After every row
the file is written anew; rows that would begin after `--seconds` are left out and named.
"""

import argparse
import importlib.util
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.speed import network_cases
from benchmarks.speed.against_torch import load
from benchmarks.speed.case import Settings
from benchmarks.speed.jax_programs import matmul_rate, seconds_of, training_step_with_flops
from benchmarks.speed.torch_reference.client import Worker
from cellcount_jax.runtime import sharding
from cellcount_jax.runtime.error_text import one_line

NETWORKS = ("dcl", "sau_net_2d")
VARIANTS = {8: ("channels_last", "compiled, channels_last")}
"""PyTorch's by batch size; compiling takes most of a minute: only where the ratio is a goal."""

OTHER_VARIANTS = ("channels_last",)
TIMED_SECONDS = 2.0


def main() -> None:
    """Measures row by row and writes the file after each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--batches", type=int, nargs="+", default=[8, 64])
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--seconds", type=float, default=110.0)
    parser.add_argument("--matmul", type=int, default=8192, help="side of the matrices")
    parser.add_argument("--no-torch", action="store_true")
    parser.add_argument("--tiny", action="store_true", help="small networks and images, for a test")
    parser.add_argument("--out", type=Path, default=Path("runs/gpu/speed.json"))
    options = parser.parse_args()
    started = time.monotonic()
    rate = matmul_rate(options.dtype, options.matmul)
    results: dict[str, Any] = {
        "device": sharding.describe_device(),
        "dtype": options.dtype,
        "matmul_flops_per_second": rate,
        "rows": [],
        "left_out": [],
    }
    for batch in options.batches:
        for name in options.networks:
            if time.monotonic() - started > options.seconds:
                results["left_out"].append(f"{name} {batch}: out of time")
                continue
            print(name, batch, flush=True)
            row = {"network": name, "batch": batch}
            results["rows"].append(row)
            try:
                row |= measure(name, settings(batch, options), rate)
            except Exception as error:  # such as too little memory; the other rows still count
                row["error"] = one_line(error, most=300)
            _write(options.out, results)
    if not options.no_torch and importlib.util.find_spec("torch") is not None:
        for row in results["rows"]:
            left = options.seconds - (time.monotonic() - started)
            if "seconds" not in row or left < 0:
                continue
            row["torch"] = beside(row["network"], settings(row["batch"], options))
            if "seconds" in row["torch"]:
                row["times_as_fast"] = row["torch"]["seconds"] / row["seconds"]
            _write(options.out, results)
    _write(options.out, results)
    print(json.dumps(results, indent=2))


def settings(batch: int, options: argparse.Namespace) -> Settings:
    """Settings of a case, at full size or tiny."""
    small: dict[str, Any] = {"space": (64, 64), "width": 1 / 16} if options.tiny else {}
    return Settings(batch=batch, dtype=options.dtype, **small)


def measure(name: str, settings: Settings, rate: float) -> dict[str, float]:
    """Seconds of a step, its operations, and their share of the rate of matrix products."""
    case = network_cases.build(name, settings)
    began = time.monotonic()
    advance, flops = training_step_with_flops(case)
    compiling = time.monotonic() - began
    first = max(seconds_of(advance, 2), 1e-4)
    seconds = seconds_of(advance, max(3, min(100, round(TIMED_SECONDS / first))))
    return {
        "seconds": seconds,
        "images_per_second": settings.batch / seconds,
        "flops": flops,
        "share_of_matmul_rate": flops / seconds / rate,
        "compile_seconds": compiling,
    }


def beside(name: str, settings: Settings) -> dict[str, Any]:
    """The same step in PyTorch: its fastest variant and seconds, or why there are none."""
    case = network_cases.build(name, settings)
    variants = VARIANTS.get(settings.batch, OTHER_VARIANTS)
    try:
        with Worker(sys.executable) as twin, tempfile.TemporaryDirectory() as folder:
            load(case, twin, Path(folder))
            found = twin("choose", what="step", dtype=settings.dtype, names=variants)
            n = max(3, round(TIMED_SECONDS / max(found["seconds"][found["variant"]], 1e-4)))
            return {"variant": found["variant"], "seconds": twin("time", n=n)["seconds"]}
    except (ValueError, RuntimeError) as error:
        return {"error": one_line(error, most=300)}


def _write(path: Path, results: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
