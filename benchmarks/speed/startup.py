"""How long `cellcount predict` takes to begin: one 256x256 image, as a whole process.

    python -m benchmarks.speed.startup                     # two minutes

In turns: a process that imports jax, flax.linen and optax and jits one function; `cellcount
predict` with the model in the box and nothing compiled before (cold); the same again (warm: what
it compiled is found in the cache). Prints seconds of the wall clock and the ratios to the first.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

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
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks/startup.json"))
    options = parser.parse_args()
    rounds = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        simulate.write_simulated(folder / "made", 1, seed=0)
        (image,) = (folder / "made").rglob("*.png")
        one_round(image, folder / "first", options.model)  # reads the files from the disk
        for i in range(options.rounds):
            rounds.append(one_round(image, folder / str(i), options.model))
    print(f"a 256x256 image, medians of {options.rounds} rounds (least to greatest)")
    for key in ("bare", "cold", "warm"):
        values = [r[key] for r in rounds]
        text = f"{key}: {statistics.median(values):.2f} s ({min(values):.2f} to {max(values):.2f})"
        if key in GOAL:
            ratios = [r[key] / r["bare"] for r in rounds]
            text += f", ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to "
            text += f"{max(ratios):.2f}), goal {GOAL[key]:g}"
        print(text)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(rounds, indent=2) + "\n")


if __name__ == "__main__":
    main()
