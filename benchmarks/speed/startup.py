"""Start-up time of `cellcount predict`: one 256x256 image, as a whole process.

    python -m benchmarks.speed.startup                     # two minutes

In turns: a process that imports jax, flax.linen and optax and jits one function (bare); `cellcount
predict` with the bundled model and an empty cache of compiled programs (cold); the same again with
the cache that it left (warm). Prints wall-clock seconds and the ratios to the first.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.output import add_arguments, finish, median_and_range, shown
from cellcount_jax.simulation import simulate

BARE = "import jax, flax.linen, optax; jax.jit(lambda x: 2 * x)(1.0).block_until_ready()"

GOAL = {"cold": 6.0, "warm": 3.0}


def seconds_of(arguments: list[str], cache: Path) -> float:
    """Wall time of a Python process that must succeed."""
    unset = ("JAX_COMPILATION_CACHE_DIR",)
    env = {k: v for k, v in os.environ.items() if k not in unset} | {"CELLCOUNT_CACHE": str(cache)}
    started = time.perf_counter()
    subprocess.run([sys.executable, *arguments], env=env, check=True, capture_output=True)
    return time.perf_counter() - started


def one_round(image: Path, folder: Path, model: str) -> dict[str, float]:
    """Seconds of the three processes."""
    cache = folder / "cache"
    found = {"bare": seconds_of(["-c", BARE], cache)}
    command = ["-m", "cellcount_jax.cli.main", "predict", str(image), "--model", model, "-o"]
    for name in ("cold", "warm"):
        found[name] = seconds_of([*command, str(folder / name)], cache)
    return found


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="nuclei")
    parser.add_argument("--rounds", type=int, default=7)
    add_arguments(parser)
    options = parser.parse_args()
    rounds = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        simulate.write_simulated(folder / "made", 1, seed=0)
        (image,) = (folder / "made").rglob("*.png")
        one_round(image, folder / "first", options.model)  # reads the files from the disk
        for i in range(options.rounds):
            rounds.append(one_round(image, folder / str(i), options.model))
    finish(options, "startup", {"rounds": rounds}, table(rounds))


def table(rounds: list[dict[str, float]]) -> str:
    """A line per process: seconds, and for `cellcount predict` the ratio to the bare process."""
    lines = [f"A 256x256 image, medians of {len(rounds)} rounds (minimum to maximum)."]
    for key in ("bare", "cold", "warm"):
        text = f"{key}: {shown(median_and_range([r[key] for r in rounds]))} s"
        if key in GOAL:
            ratios = median_and_range([r[key] / r["bare"] for r in rounds])
            text += f", ratio {shown(ratios)}, goal {GOAL[key]:g}"
        lines.append(text)
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
