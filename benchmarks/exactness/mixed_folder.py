"""A folder of 20 good images and 40 files of all kinds that go wrong, counted in one call.

    python -m benchmarks.exactness.mixed_folder [--keep FOLDER]

Checks that the 20 are counted as if they were alone and within 5 % of the truth, that each of the
40 has its rows or its line in the log (`odd_files` says which), and that the exit status is the
documented one of "some files failed". Prints what the user sees for each of the 40.
"""

import argparse
import csv
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tifffile

from benchmarks.exactness.odd_files import CELLS, ODD, Odd, cells
from benchmarks.output import add_arguments, finish
from cellcount_jax.cli.common import SOME_FAILED
from cellcount_jax.inference.counter import Counter
from cellcount_jax.prediction.predict_files import count_files
from cellcount_jax.prediction.writers import path_text

TOLERANCE = 0.05
N_GOOD = 20

Row = Mapping[str, str]


def make(folder: Path) -> dict[str, int]:
    """Writes the 60 files; returns the number of cells of each good image."""
    folder.mkdir(parents=True)
    good = {f"good_{i:02}.tif": 20 + i for i in range(N_GOOD)}
    for i, (name, n) in enumerate(good.items()):
        tifffile.imwrite(folder / name, cells(i, n))
    for name, odd in ODD.items():
        odd.write(folder / name)
    return good


def count(folder: Path, out: Path) -> tuple[int, list[Row], str]:
    """Exit status of the command, its rows, and all that it printed."""
    command = [sys.executable, "-m", "cellcount_jax.cli.main", "predict", str(folder)]
    done = subprocess.run(
        [*command, "-o", str(out)], capture_output=True, text=True, errors="backslashreplace"
    )
    with (out / "counts.csv").open(newline="", encoding="utf-8") as file:
        return done.returncode, list(csv.DictReader(file)), done.stdout + done.stderr


def is_right(row: Row, n: int) -> bool:
    """Whether the count of a row is within 5 % of the truth."""
    return row["status"] == "ok" and abs(float(row["count"]) - n) <= TOLERANCE * n


def fault(odd: Odd, rows: Sequence[Row], screen: str) -> str | None:
    """What is wrong with the rows of an odd file; None if nothing is."""
    said = " ".join(row["status"] + " " + row["remarks"] for row in rows)
    errors = sum(row["status"].startswith("error: ") for row in rows)
    if odd.says not in (said if rows else screen):
        return f"nowhere is said {odd.says!r}"
    if len(rows) != (0 if odd.result == "passed" else odd.rows) and odd.result != "any":
        return f"{len(rows)} rows"
    if odd.result == "error" and errors != odd.rows:
        return "counted as if nothing were wrong"
    if odd.result == "count" and not all(is_right(row, CELLS) for row in rows):
        return f"count {[row['count'] or row['status'] for row in rows]}, not {CELLS}"
    return "no row" if odd.result == "any" and not rows else None


def run(folder: Path) -> dict[str, Any]:
    """Makes the folder `images` in a new folder, counts it and compares."""
    images, out = folder / "images", folder / "counts"
    good = make(images)
    start = time.perf_counter()
    status, rows, screen = count(images, out)
    seconds = time.perf_counter() - start
    by_name: dict[str, list[Row]] = {}
    for row in rows:
        by_name.setdefault(row["image"], []).append(row)
    counter, faults = Counter.load("nuclei"), {}
    for name, n in good.items():
        (row,) = by_name.pop(str(images / name))
        (alone,) = count_files(counter, images / name, folder / "alone" / name, model="nuclei")
        if not is_right(row, n):
            faults[name] = f"{row['count']} for {n}"
        elif any(row[k] != alone[k] for k in row):
            faults[name] = f"{row} in the folder, {alone} alone"
    for name, odd in ODD.items():
        own = by_name.pop(path_text(images / name), [])
        shown = [f"{row['count'] or '-':>6} {row['status']} | {row['remarks']}" for row in own]
        print(ascii(name)[:40], *(shown or ["no row"]), sep="\n    ")
        found = fault(odd, own, screen)
        if found:
            faults[ascii(name)] = found
            print(f"    FAULT: {found}")
    faults |= dict.fromkeys(by_name, "a row of a file that is none of these")
    if status != SOME_FAILED:
        faults["exit status"] = f"{status}, not {SOME_FAILED}"
    print("\nscreen:", screen, sep="\n")
    figures = {"good": len(good), "odd": len(ODD), "rows": len(rows), "status": status}
    return {**figures, "faults": faults, "seconds": round(seconds, 1)}


def main() -> None:
    """Counts the folder and prints what was found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--keep", type=Path, help="new folder for the files; default: temporary")
    add_arguments(parser)
    options = parser.parse_args()
    os.umask(0o022)
    with tempfile.TemporaryDirectory() as name:
        found = run(options.keep or Path(name))
    finish(options, "mixed_folder", {"date": time.strftime("%Y-%m-%d", time.gmtime()), **found})
    sys.exit(1 if found["faults"] else 0)


if __name__ == "__main__":
    main()
