"""All measurements that need an accelerator, in one command of at most nine minutes.

    python -m benchmarks.gpu                                   # all parts, in the listed order
    python -m benchmarks.gpu --parts dcl_mbm dcl_mbm_without   # some of them
    python -m benchmarks.gpu --tiny --limit 600                # a test of the command, anywhere

On a machine without a package index: first, on one that has it, `benchmarks.gpu.prepare` (its
docstring says how) fills a folder, here `.gpu`; then, with that folder in the repository's top
folder, there:

    python3 -m pip install -q --no-index --no-deps --no-compile --upgrade --target /tmp/site \\
        .gpu/wheels/*.whl
    PYTHONPATH=/tmp/site CELLCOUNT_RAW_DIR=$PWD/.gpu/data TFDS_DATA_DIR=/tmp/prepared \\
        python3 -m benchmarks.gpu --out OUT --runs /tmp/runs

The speed part comes first and alone; of the others `--lanes` (2) run at a time, each a process with
its share of 0.9 of the device's memory, started in the listed order. A part without its data is
left out. `--out` gets `gpu.jsonl`, a line per part as it ends or is stopped (figures or the last
validation, seconds, exit status, command, end of its log), and `gpu.zip` with report, metrics and
predictions of each.
At `--limit` seconds everything is stopped; a later call with the same `--runs` resumes.
"""

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.gpu.parts import PARTS, Part
from cellcount_jax.models.pretrained import RAW_DIR
from cellcount_jax.runtime.environment import git_revision

MEMORY_SHARE = 0.9
"""Share of the device's memory that is divided among the processes."""

KEPT = ("report.html", "metrics.jsonl", "predictions.csv", "results.json", "config.json")
POLL_SECONDS = 0.2
GRACE_SECONDS = 5.0
LOG_CHARACTERS = 3000


def main() -> None:
    """Runs the parts that were asked for; the exit status is 1 if one of them failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", nargs="+", choices=[p.name for p in PARTS], metavar="PART")
    parser.add_argument("--limit", type=float, default=540.0, help="seconds, then all is stopped")
    parser.add_argument("--out", type=Path, default=Path("runs/gpu"), help="folder of the results")
    parser.add_argument("--runs", type=Path, default=Path("runs/gpu"), help="folder of the runs")
    parser.add_argument("--lanes", type=int, default=2, help="processes at a time")
    parser.add_argument("--tiny", action="store_true", help="tiny networks and two steps")
    options = parser.parse_args()
    deadline = time.monotonic() + options.limit
    asked = [p for p in PARTS if options.parts is None or p.name in options.parts]
    options.out.mkdir(parents=True, exist_ok=True)
    options.runs.mkdir(parents=True, exist_ok=True)
    failed = run_all(asked, options, deadline)
    sys.exit(1 if failed else 0)


def run_all(parts: Sequence[Part], options: argparse.Namespace, deadline: float) -> int:
    """Runs parts, `lanes` at a time except those that run alone; returns how many failed."""
    waiting, running, failed = list(parts), list[Running](), 0
    while waiting or running:
        late = time.monotonic() > deadline
        for each in [r for r in running if late or r.process.poll() is not None]:
            running.remove(each)
            failed += each.finish(options, stopped=late and each.process.poll() is None)
        if late:
            for part in waiting:
                note(options.out, {"part": part.name, "status": "not started: out of time"})
            return failed
        part = next_part(waiting, [r.part for r in running], lanes=options.lanes)
        if part is None:
            time.sleep(POLL_SECONDS)
            continue
        waiting.remove(part)
        missing = part.missing(Path(os.environ.get(RAW_DIR, "")), tiny=options.tiny)
        if missing:
            note(options.out, {"part": part.name, "status": f"left out: no {missing}"})
        else:
            running.append(Running(part, options))
    return failed


def next_part(waiting: Sequence[Part], running: Sequence[Part], *, lanes: int) -> Part | None:
    """The next part that may start beside those that run; None: wait."""
    if not waiting or len(running) >= lanes or any(p.alone for p in running):
        return None
    if waiting[0].alone:
        return None if running else waiting[0]
    unfinished = {p.name for p in [*waiting, *running]}
    return next((p for p in waiting if p.after not in unfinished and not p.alone), None)


class Running:
    """A part in a process of its own, with its log."""

    def __init__(self, part: Part, options: argparse.Namespace):
        self.part, self.started = part, time.monotonic()
        self.command = part.command(options.runs, tiny=options.tiny)
        self.log = options.runs / f"{part.name}.log"
        share = f"{MEMORY_SHARE / options.lanes:.2f}"
        memory = {} if part.alone else {"XLA_PYTHON_CLIENT_MEM_FRACTION": share}
        # PyTorch is measured beside JAX in the part that runs alone, and needs memory too.
        memory |= {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"} if part.alone else {}
        print(f"{part.name}: {shlex.join(self.command)}", flush=True)
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                self.command,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **memory, "PYTHONUNBUFFERED": "1"},
                start_new_session=True,  # so that its own processes are stopped with it
            )

    def finish(self, options: argparse.Namespace, *, stopped: bool) -> bool:
        """Writes down what the part found; stops it first if it still runs. Whether it failed."""
        if stopped:
            stop(self.process)
        status = "stopped" if stopped else "done" if self.process.returncode == 0 else "failed"
        folder = self.part.folder(options.runs)
        line = {
            "part": self.part.name,
            "status": status,
            "seconds": round(time.monotonic() - self.started, 1),
            "command": shlex.join(self.command),
            "tiny": options.tiny,
            "commit": git_revision(),
            "figures": figures(folder),
            "log": self.log.read_text(errors="replace")[-LOG_CHARACTERS:],
        }
        note(options.out, line)
        with zipfile.ZipFile(options.out / "gpu.zip", "a", zipfile.ZIP_DEFLATED) as archive:
            for name in KEPT:
                if (folder / name).is_file():
                    archive.write(folder / name, f"{self.part.name}/{name}")
        return status == "failed"


def stop(process: subprocess.Popen) -> None:
    """Ends a process and those that it started."""
    for sent, grace in ((signal.SIGTERM, GRACE_SECONDS), (signal.SIGKILL, GRACE_SECONDS)):
        try:
            os.killpg(process.pid, sent)
            process.wait(grace)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue


def figures(folder: Path) -> Any:
    """Content of the results of a part; of a run without any, the last lines of its metrics."""
    for name in ("results.json", "speed.json"):
        if (folder / name).is_file():
            return json.loads((folder / name).read_text())
    metrics = folder / "metrics.jsonl"
    lines = metrics.read_text().splitlines() if metrics.is_file() else []
    return [json.loads(line) for line in lines[-4:]]


def note(out: Path, line: Mapping[str, Any]) -> None:
    """Appends a line to `gpu.jsonl` and prints its beginning."""
    with (out / "gpu.jsonl").open("a") as lines:
        lines.write(json.dumps(line) + "\n")
    shown = {key: line[key] for key in ("part", "status", "seconds") if key in line}
    found = line.get("figures") if isinstance(line.get("figures"), dict) else {}
    keys = ("mae", "rmse", "bias", "patch_mae", "f1", "matmul_flops_per_second")
    shown |= {key: found[key] for key in keys if found and found.get(key) is not None}
    print(json.dumps(shown), flush=True)


if __name__ == "__main__":
    main()
