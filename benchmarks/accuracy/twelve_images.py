"""`cellcount train` on twelve images with dots: is the counter good, and the error it quotes true?

    python -m benchmarks.accuracy.twelve_images --record
    python -m benchmarks.accuracy.twelve_images --seeds 0 --folds 3 --record

VGG images 001 to 012 and their dots are laid out as a lab does, `cellcount train` runs with each
seed, and `cellcount evaluate` compares counts with dots on images 101 to 130. Nothing is chosen by
these. The error that the command quotes (with `--folds`, by cross-validation) is compared with the
error there. The same command resumes after a stop; finished seeds are not repeated.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.output import markdown, mean_and_sd, record
from cellcount_jax.data.sample import Sample
from cellcount_jax.datasets.registry import BENCHMARKS
from cellcount_jax.simulation.write_folder import write_folder

TRAINED, COUNTED = (1, 12), (101, 130)
"""First and last number of the images."""

MIN_F1, MAX_RATIO = 0.93, 2.0
"""What a counter must reach, and the factor that a quoted error may be wrong by."""


def main(argv: Sequence[str] | None = None) -> None:
    """Trains, evaluates, and prints a row for each seed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--folds", type=int, default=0, help="of the command's cross-validation")
    parser.add_argument("--steps", type=int, help="of training; default that of the command")
    parser.add_argument("--out", type=Path, default=Path("runs/twelve_images"))
    parser.add_argument("--record", action="store_true", help="also add to benchmarks/results")
    options = parser.parse_args(argv)
    folders = options.out / "train", options.out / "test"
    if not folders[1].exists():
        write_folders(*folders)
    found = []
    for seed in options.seeds:
        name = f"seed{seed}" + (f"_folds{options.folds}" if options.folds else "")
        workdir = options.out / name
        done = (workdir / "evaluation" / "evaluation.json").exists()
        found.append(run(workdir, *folders, seed=seed, folds=options.folds, steps=options.steps))
        if options.record and not done:
            record("twelve_images", found[-1], seed=seed, split_hash=found[-1]["split_hash"])
    print(table(found))


def write_folders(train: Path, test: Path) -> None:
    """Writes the two folders, images and dots."""
    samples = BENCHMARKS["vgg_cells"].read(Path(os.environ["CELLCOUNT_RAW_DIR"]) / "vgg_cells")
    numbered: dict[int, Sample] = {int(s.name): s for s in samples}
    for folder, (first, last) in ((train, TRAINED), (test, COUNTED)):
        chosen = [numbered[n] for n in range(first, last + 1)]
        write_folder(folder, chosen, format="png", record={})


def run(
    workdir: Path, train: Path, test: Path, *, seed: int, folds: int, steps: int | None
) -> dict[str, Any]:
    """One seed, by the commands that a lab types; what is there is not repeated."""
    command = [sys.executable, "-m", "cellcount_jax.cli.main"]
    more = [
        *(["--steps", str(steps)] if steps else ()),
        *(["--folds", str(folds)] if folds else ()),
    ]
    trained = ["train", str(train), "-o", str(workdir), "--seed", str(seed), *more]
    subprocess.run([*command, *trained], check=True)
    out = workdir / "evaluation"
    if not (out / "evaluation.json").exists():
        evaluated = ["evaluate", str(test), "--model", str(workdir), "-o", str(out)]
        subprocess.run([*command, *evaluated], check=True)
    return figures(workdir)


def figures(workdir: Path) -> dict[str, Any]:
    """What the training says of its error, and the error on the counted images."""
    quoted = json.loads((workdir / "results.json").read_text())
    actual = json.loads((workdir / "evaluation" / "evaluation.json").read_text())
    crossed = workdir / "cross_validation.json"
    return {
        "seed": quoted["seed"],
        "split_hash": quoted["split_hash"],
        "chosen_step": quoted["chosen_step"],
        "seconds_train": round(quoted["seconds_train"], 1),
        "quoted": {key: quoted[key] for key in ("split", "n_images", "mae", "f1")},
        "cross_validation": json.loads(crossed.read_text()) if crossed.exists() else None,
        "actual": {key: actual[key] for key in ("n_images", "mae", "bias", "mape", "f1")},
    }


def table(found: Sequence[dict[str, Any]]) -> str:
    """A row per seed and their mean; the last line says whether the counters are good enough."""
    rows = [_cells(row) for row in found]
    head = ["seed", "split", "MAE quoted", "F1 quoted", "cross-validation, MAE", "MAE", "F1", "s"]
    means = ["mean", "", *(mean_and_sd([_number(r[i]) for r in rows]) for i in range(2, 8))]
    least = min(row["actual"]["f1"] for row in found)
    lines = [f"least F1 {least:.3f} (wanted {MIN_F1})", error_line(found)]
    return "\n".join([markdown(head, [*rows, means]), "", *lines])


def error_line(found: Sequence[dict[str, Any]]) -> str:
    """Whether the quoted errors are within the factor, or are not claimed for new images."""
    claimed = [(q, row["actual"]["mae"]) for row in found if (q := claimed_error(row)) is not None]
    if not claimed:
        return "the command claims no error on new images: it says that it is not known"
    quoted, actual = np.mean(claimed, axis=0)
    apart = max(quoted / actual, actual / quoted)
    return f"error on new images, claimed and found: a factor {apart:.2f} (allowed {MAX_RATIO})"


def claimed_error(row: dict[str, Any]) -> float | None:
    """MAE that the command expects of new images; None where it says that it cannot know."""
    if row["cross_validation"] is not None:
        return row["cross_validation"]["mae"]
    return None if row["quoted"]["split"] == "train" else row["quoted"]["mae"]


def _cells(row: dict[str, Any]) -> list[str]:
    crossed = row["cross_validation"]
    quoted, actual = row["quoted"], row["actual"]
    values = [quoted["mae"], quoted["f1"], crossed and crossed["mae"], actual["mae"], actual["f1"]]
    shown = ["-" if v is None else f"{v:.3f}" for v in values]
    return [str(row["seed"]), quoted["split"], *shown, f"{row['seconds_train']:.0f}"]


def _number(cell: str) -> float | None:
    return None if cell == "-" else float(cell)


if __name__ == "__main__":
    main()
