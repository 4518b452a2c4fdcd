"""Interrupts every command that writes results, and checks that a rerun ends as if it never was.

    python -m benchmarks.exactness.soak [--kills 100]

Each method at its `:tiny` preset, `cellcount train`, `predict`, `explain` and `export` run on
simulated cells. A run is stopped at a random instant up to three times, mostly with SIGKILL,
sometimes as Ctrl-C (SIGINT) or a scheduler (SIGTERM) does; then the same command runs to its end.
Everything it writes must be bitwise equal to what an uninterrupted run writes: tables, points,
arrays of checkpoints, model files, reports. Only durations are not compared.
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from etils import epath

from benchmarks.output import add_arguments, finish
from cellcount_jax.runtime import checkpoint

ROOT = Path(__file__).parents[2]

STAGES = {
    "density": ("density",),
    "csrnet": ("csrnet",),
    "dcl": ("counter", "localizer"),
    "countxplain": ("csrnet", "prototypes"),
    "consistency": ("consistency",),
}
"""Method -> its stages."""

STEPS, N_TRAIN = 24, 8
"""More than `:tiny` takes, so that there are checkpoints to resume from."""

DURATIONS = ("seconds", "images_per_second", "hours")
"""Prefixes of the names of facts that differ between any two runs."""

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
SHARES = (0.8, 0.1, 0.1)

STOPPED = {signal.SIGTERM: 143, signal.SIGINT: 130}
"""Documented exit status after each signal that a program can handle, once it has started."""


class Command(NamedTuple):
    """One command, its share of the kills, and where it writes: folder `run`."""

    name: str
    share: int
    argv: list[str]


def commands(folder: Path) -> list[Command]:
    """All of them; `prepare` makes the images and the model that they take."""
    images, model, run = (str(folder / name) for name in ("images", "model", "run"))
    cellcount = [sys.executable, "-m", "cellcount_jax.cli.main"]
    predict = [*cellcount, "predict", f"{images}/images", "--model", model, "-o", run]
    return [
        *(Command(name, 10, train_command(name, run)) for name in STAGES),
        Command("train", 15, [*cellcount, "train", images, "-o", run, "--steps", "40"]),
        Command("predict", 15, [*predict, "--overlays", "--density", "--columns", "all"]),
        Command("explain", 10,
                [*cellcount, "explain", f"{images}/images", "--model", model, "-o", run]),
        Command("export", 5, [*cellcount, "export", model, f"{run}/tiny.cellcount"]),
        Command("export --format stablehlo", 5,
                [*cellcount, "export", model, run, "--format", "stablehlo"]),
    ]  # fmt: skip


def train_command(method: str, run: str) -> list[str]:
    """Trains the method's tiny preset."""
    steps = [f"--config.stages.{stage}.steps={STEPS}" for stage in STAGES[method]]
    config = f"--config={ROOT}/configs/{method}_vgg.py:tiny"
    program = [sys.executable, "-m", "cellcount_jax.main", config]
    return [*program, f"--workdir={run}", f"--config.data.n_train={N_TRAIN}", *steps]


def environment(folder: Path) -> dict[str, str]:
    """Environment of the commands: without this machine's data and with a cache of their own."""
    variables = {**os.environ, "TFDS_DATA_DIR": str(folder / "none"), "PYTHONPATH": str(ROOT)}
    variables["CELLCOUNT_CACHE"] = str(folder / "cache")
    variables.pop("CELLCOUNT_RAW_DIR", None)
    return variables


def prepare(folder: Path) -> None:
    """Simulates images and trains the model that counts and explains them."""
    simulate = [sys.executable, "-m", "cellcount_jax.cli.main", "simulate", str(folder / "images")]
    complete([*simulate, "-n", "24", "--shape", "96", "96", "--count", "12"], folder)
    complete(train_command("countxplain", str(folder / "model")), folder)


def complete(argv: list[str], folder: Path) -> float:
    """Runs a command to its end and returns the seconds it took.

    Raises:
      RuntimeError: It failed.
    """
    start = time.perf_counter()
    done = subprocess.run(argv, cwd=folder, env=environment(folder), capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{argv} ended with status {done.returncode}: {done.stderr[-800:]}")
    return time.perf_counter() - start


def stop(argv: list[str], folder: Path, wait: float, number: signal.Signals) -> tuple[bool, bool]:
    """Starts a command and stops it after `wait` seconds.

    Returns:
      Whether it was still running, and whether it ended as documented for the signal.
    """
    with tempfile.TemporaryFile("w+") as stderr:
        process = subprocess.Popen(
            argv, cwd=folder, env=environment(folder), stdout=subprocess.DEVNULL, stderr=stderr
        )
        try:
            process.wait(wait)
            return False, True
        except subprocess.TimeoutExpired:
            process.send_signal(number)
        status = process.wait()
        stderr.seek(0)
        text = stderr.read()
    clean = status in (0, -number, STOPPED.get(number)) and "Traceback" not in text
    if not clean:
        print(f"{number.name} after {wait:.1f} s: status {status}", text[-2000:], flush=True)
    return True, clean


def content(folder: Path) -> dict[str, str]:
    """Digest of every file that a command wrote, without durations."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and "checkpoints" not in path.parts and not path.name.endswith(".lock"):
            found[name] = hashlib.sha256(without_durations(path)).hexdigest()
    for stage in sorted(folder.glob("checkpoints/*")):
        variables, facts = checkpoint.load_final(epath.Path(stage))
        digest = hashlib.sha256(json.dumps(pruned(facts), sort_keys=True).encode())
        for leaf in jax.tree.leaves(variables):
            digest.update(np.ascontiguousarray(leaf).tobytes())
        found[f"checkpoints/{stage.name}"] = digest.hexdigest()
        found[f"steps/{stage.name}"] = str(sorted(p.name for p in (stage / "steps").iterdir()))
    return found


def without_durations(path: Path) -> bytes:
    """Content of a file that is equal for equal results."""
    data = path.read_bytes()
    if path.suffix == ".json":
        return json.dumps(pruned(json.loads(data))).encode()
    if path.suffix == ".html":
        rows = rf"<tr><td>({'|'.join(DURATIONS)})\w*</td>.*?</tr>".encode()
        return re.sub(rows, b"", data, flags=re.DOTALL)
    return data


def pruned(value: Any) -> Any:
    """JSON without the facts that hold durations."""
    if isinstance(value, Mapping):
        return {k: pruned(v) for k, v in value.items() if not k.startswith(DURATIONS)}
    return [pruned(v) for v in value] if isinstance(value, list) else value


def soak(command: Command, folder: Path, kills: int, rng: np.random.Generator) -> dict[str, Any]:
    """Stops a command this many times and compares its results with an uninterrupted run's.

    Returns:
      `kills` by signal, `ends` compared, `different` files by name (empty when all is well),
      `unclean` ends after SIGTERM and SIGINT, and the `seconds` of an uninterrupted run.
    """
    run = folder / "run"
    for _ in range(2):  # The first fills the cache of compiled programs.
        shutil.rmtree(run, ignore_errors=True)
        seconds = complete(command.argv, folder)
    expected = content(run)
    counts = dict.fromkeys((number.name for number in SIGNALS), 0)
    ends, unclean, different = 0, 0, set()
    while sum(counts.values()) < kills:
        shutil.rmtree(run, ignore_errors=True)
        for _ in range(min(3, kills - sum(counts.values()))):
            number = SIGNALS[rng.choice(len(SIGNALS), p=SHARES)]
            running, clean = stop(command.argv, folder, rng.uniform(0.2, 1) * seconds, number)
            counts[number.name] += running
            unclean += not clean
        # The latest duration, because other work may slow this machine down for a while.
        seconds = complete(command.argv, folder)
        ends += 1
        left = content(run)
        names = expected.keys() | left.keys()
        different |= {name for name in names if expected.get(name) != left.get(name)}
    figures = {"kills": counts, "ends": ends, "different": sorted(different), "unclean": unclean}
    return {**figures, "files": len(expected), "seconds": round(seconds, 1)}


def main() -> None:
    """Stops, compares and prints a line per command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=100, help="in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="the name of one command")
    add_arguments(parser)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    found = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)
        chosen = [c for c in commands(folder) if options.only in (None, c.name)]
        whole = sum(c.share for c in chosen)
        for command in chosen:
            kills = round(options.kills * command.share / whole)
            found[command.name] = soak(command, folder, kills, rng)
            print(command.name, json.dumps(found[command.name]), flush=True)
    date = time.strftime("%Y-%m-%d", time.gmtime())
    finish(options, "soak", {"date": date, "commands": found})


if __name__ == "__main__":
    main()
