"""Training steps over 1, 2, 4 and 8 devices of this host, and what compilation costs.

    python -m benchmarks.speed.scaling                  # two CPU cores, minutes: only that it runs
    python -m benchmarks.speed.scaling --config configs/dcl_vgg.py --batch 64  # a machine with GPUs

On a CPU the devices are simulated and share its cores: the run shows that the same program works on
all of them and what the split costs, not a speed-up. The global batch stays the same. Every program
is compiled twice, in two processes: with an empty cache of compiled programs (cold) and with the
cache that the first process left (warm).

Steps are timed in turn on all numbers of devices, warm-up excluded; median of the repeats. Writes
scaling.json and scaling.md.
"""

import argparse
import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from benchmarks.output import add_arguments, finish, markdown, median_and_range, shown
from benchmarks.read_config import read_config
from cellcount_jax.methods import build_stages
from cellcount_jax.methods.base import Tree
from cellcount_jax.runtime import sharding
from cellcount_jax.training import optimizer
from cellcount_jax.training.step import create_state, make_step

NUMBERS = (1, 2, 4, 8)

PROGRAM = "from benchmarks.speed import scaling; scaling.worker()"


def rows(batch: int, side: int, channels: int) -> Tree:
    """A labelled batch of random images."""
    rng = np.random.default_rng(0)
    return {
        "labelled": {
            "image": rng.normal(size=(batch, side, side, channels)).astype(np.float32),
            "target": rng.random((batch, side, side)).astype(np.float32) / 1000,
            "count": np.full(batch, 60.0, np.float32),
            "mask": np.ones(batch, np.float32),
            "index": np.arange(batch, dtype=np.int32),
        }
    }


def compiled_step(config: ConfigDict, data: Tree, n_devices: int) -> tuple[Callable, float]:
    """The first stage's step on some of the devices, and the seconds it took to compile."""
    stage = build_stages(config)[0]
    plan = config.stages[stage.name]
    mesh = sharding.mesh_of(jax.devices()[:n_devices])
    tx = optimizer.from_config(plan.optimizer, steps=1000, steps_per_epoch=100)
    variables = stage.init(jax.random.key(0), data, {})
    everywhere = sharding.replicated(mesh)
    state = jax.device_put(create_state(variables, tx, ema_decay=plan.ema_decay), everywhere)
    layout = sharding.rows_over(mesh, len(data["labelled"]["mask"]))
    placed = jax.device_put(data, layout)
    step = make_step(stage, tx, lambda given, _: given, mesh, seed=0, ema_decay=plan.ema_decay)
    began = time.monotonic()
    compiled = step.lower(state, {}, placed).compile()
    seconds = time.monotonic() - began

    def advance() -> None:
        nonlocal state
        state, metrics = compiled(state, {}, placed)
        jax.block_until_ready(metrics)  # simulated devices may deadlock otherwise

    return advance, seconds


def worker() -> None:
    """Compiles for every number of devices and, if asked, times the steps; prints JSON."""
    asked = json.loads(sys.argv[1])
    config = read_config(asked["config"])
    data = rows(asked["batch"], asked["side"], config.preprocessing.channels)
    numbers = [n for n in NUMBERS if n <= jax.device_count() and asked["batch"] % n == 0]
    steps, compiling = {}, {}
    for n in numbers:
        steps[n], compiling[n] = compiled_step(config, data, n)
    rates: dict[int, list[float]] = {n: [] for n in numbers}
    for repeat in range(asked["repeats"] + 1 if asked["repeats"] else 0):
        for n in numbers:
            began = time.perf_counter()
            for _ in range(asked["steps"]):
                steps[n]()
            if repeat:
                rates[n].append(asked["steps"] * asked["batch"] / (time.perf_counter() - began))
    found = {"device": sharding.describe_device(), "compile_seconds": compiling, "rates": rates}
    print(json.dumps(found))


def run_worker(asked: dict[str, Any], programs: str) -> dict[str, Any]:
    """`worker` in a process with eight devices and a folder of compiled programs."""
    environment = {
        **os.environ,
        "JAX_NUM_CPU_DEVICES": "8",
        "JAX_COMPILATION_CACHE_DIR": programs,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    command = [sys.executable, "-c", PROGRAM, json.dumps(asked)]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def measure(asked: dict[str, Any]) -> dict[str, Any]:
    """Rates, and seconds of compilation without and with the folder of compiled programs."""
    with tempfile.TemporaryDirectory() as programs:
        cold = run_worker({**asked, "repeats": 0}, programs)
        warm = run_worker(asked, programs)
    found = {}
    for n, rates in warm["rates"].items():
        found[n] = {
            "images_per_second": median_and_range(rates),
            "compile_seconds_cold": cold["compile_seconds"][n],
            "compile_seconds_warm": warm["compile_seconds"][n],
        }
    return {
        **asked,
        "device": warm["device"],
        "cores": os.cpu_count(),
        "jax": importlib.metadata.version("jax"),
        "devices": found,
    }


def table(results: dict[str, Any]) -> str:
    """Markdown."""
    about = (
        f"{results['config']}, first stage, global batch {results['batch']} of "
        f"{results['side']}x{results['side']}, on {results['device']}, jax {results['jax']}; "
        f"median (minimum to maximum) of {results['repeats']} repeats."
    )
    rows = [
        [
            str(n),
            shown(row["images_per_second"], digits=1),
            f"{row['compile_seconds_cold']:.1f}",
            f"{row['compile_seconds_warm']:.1f}",
        ]
        for n, row in results["devices"].items()
    ]
    head = ["devices", "images/s", "compile cold, s", "compile warm, s"]
    return f"{about}\n\n{markdown(head, rows)}\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add_arguments(parser)
    parser.add_argument("--config", default="configs/dcl_vgg.py:quick", help="FILE.py:preset")
    parser.add_argument("--batch", type=int, default=8, help="images, over all devices")
    parser.add_argument("--side", type=int, default=64, help="of the images")
    parser.add_argument("--steps", type=int, default=3, help="of one measurement")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    asked = {k: getattr(options, k) for k in ("config", "batch", "side", "steps", "repeats")}
    results = measure(asked)
    finish(options, "scaling", results, table(results))


if __name__ == "__main__":
    main()
