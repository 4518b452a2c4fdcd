"""Kills of a program that annotates: how many finished acts are lost.

    python -m benchmarks.exactness.annotation_kills [--kills 50]

A process performs a fixed random sequence of acts (add, remove, move, class, propose, accept,
reject, threshold, undo, redo) and says after each that it has returned. It is killed (SIGKILL) at a
random instant and started again on the same journal, over and over. After each kill the dots and
the whole history are compared with those of a session that was never killed.
"""

import argparse
import hashlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.output import add_arguments, finish
from cellcount_jax.annotation.records import State
from cellcount_jax.annotation.session import Session

SHAPE = (40, 500, 500)
NO_ACT = ("open", "close")


def act(session: Session, number: int) -> None:
    """The act of this number; it depends on the number and on the dots alone."""
    rng = np.random.default_rng(number)
    states = session.table.rows.states
    alive = np.flatnonzero(states != State.REMOVED)
    proposed = np.flatnonzero(states == State.PROPOSED)
    point = rng.uniform(0, np.array(SHAPE) - 1)
    kind = rng.choice(
        ["add", "remove", "move", "class", "propose", "accept", "reject", "threshold", "undo",
         "redo"],
        p=[0.3, 0.08, 0.08, 0.08, 0.04, 0.08, 0.08, 0.04, 0.13, 0.09],
    )  # fmt: skip
    if kind == "remove" and len(alive):
        session.remove(rng.choice(alive))
    elif kind == "move" and len(alive):
        session.move(int(rng.choice(alive)), point)
    elif kind == "class" and len(alive):
        session.set_class(rng.choice(alive, 3), int(rng.integers(6)))
    elif kind == "propose":
        n = int(rng.integers(1, 2000))
        session.propose(rng.uniform(0, 1, (n, 3)) * (np.array(SHAPE) - 1), rng.uniform(0, 1, n))
    elif kind == "accept" and len(proposed):
        session.accept(rng.choice(proposed))
    elif kind == "reject" and len(alive):
        session.reject(rng.choice(alive))
    elif kind == "threshold":
        session.set_threshold(float(rng.uniform()))
    elif not ((kind == "undo" and session.undo()) or (kind == "redo" and session.redo())):
        session.add(point)


def n_acts(session: Session) -> int:
    """Acts in the journal."""
    return sum(entry["op"] not in NO_ACT for entry in session.journal.entries)


def digest(session: Session) -> str:
    """Checksum of all dots, the threshold, and what undo and redo would do."""
    found = hashlib.sha256(repr(session.threshold).encode())
    acts = [("now", session.table.rows)]
    for name, stack in (("done", session.done), ("undone", session.undone)):
        acts += [
            (f"{name} {a.kind} {a.ids.tolist()}", r) for a in stack for r in (a.before, a.after)
        ]
    for name, rows in acts:
        found.update(name.encode())
        for column in (rows.points, rows.scores, rows.classes, rows.states):
            found.update(np.ascontiguousarray(column).tobytes())
    return found.hexdigest()


def annotate(path: Path, acts: int) -> None:
    """The process that is killed."""
    session = Session(path, SHAPE)
    for number in range(n_acts(session), acts):
        act(session, number)
        os.write(1, f"{number + 1}\n".encode())


def kill_at_random(path: Path, acts: int, rng: np.random.Generator) -> int:
    """Starts the process, kills it, and returns the number of acts that it said it had done."""
    command = [sys.executable, "-m", "benchmarks.exactness.annotation_kills", "--child", str(path)]
    with subprocess.Popen([*command, "--acts", str(acts)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        said = process.stdout.readline()  # it runs
        time.sleep(rng.uniform(0, 0.4))
        process.send_signal(signal.SIGKILL)
        rest = process.stdout.read().split(b"\n")[:-1]
    lines = [*([said] if said.endswith(b"\n") else []), *rest]
    return int(lines[-1]) if lines else 0


def run(kills: int, folder: Path, seed: int = 0) -> dict[str, int]:
    """Kills the process this many times and compares after each.

    Returns:
      `kills`, `acts` in the end, `torn` lines that were cut off, `lost` acts, and `differences`
      of dots or history.
    """
    rng = np.random.default_rng(seed)
    whole = Session(folder / "whole.journal", SHAPE)
    path = folder / "killed.journal"
    totals = {"kills": kills, "acts": 0, "torn": 0, "lost": 0, "differences": 0}
    for _ in range(kills):
        said = kill_at_random(path, 10**6, rng)
        data = path.read_bytes()
        totals["torn"] += not data.endswith(b"\n")
        again = Session(path, SHAPE)
        kept = n_acts(again)
        totals["lost"] += max(said - kept, 0)
        for number in range(n_acts(whole), kept):
            act(whole, number)
        totals["differences"] += digest(whole) != digest(again)
        totals["acts"] = kept
        again.close()
    return totals


def main() -> None:
    """Kills and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--acts", type=int, default=10**6, help=argparse.SUPPRESS)
    add_arguments(parser)
    options = parser.parse_args()
    if options.child is not None:
        annotate(options.child, options.acts)
        return
    with tempfile.TemporaryDirectory() as name:
        finish(options, "annotation_kills", run(options.kills, Path(name), options.seed))


if __name__ == "__main__":
    main()
