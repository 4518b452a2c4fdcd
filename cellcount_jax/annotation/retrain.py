"""Training again on corrected dots: in a process of its own, followed by its curve."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from etils import epath

from cellcount_jax.evaluation.folder import evaluate_folder
from cellcount_jax.evaluation.image import OK
from cellcount_jax.evaluation.summary import summarise_folder
from cellcount_jax.inference.counter import Counter
from cellcount_jax.runtime import run_files

RUN_NAME = "cellcount"


def next_run(folder: Path) -> Path:
    """The first of `cellcount`, `cellcount-2`, ... in a folder that does not exist."""
    number, path = 1, folder / RUN_NAME
    while path.exists():
        number += 1
        path = folder / f"{RUN_NAME}-{number}"
    return path


def runs_of(folder: Path) -> list[Path]:
    """Finished runs in a folder, the last one first."""
    found = [p.parent for p in folder.glob(f"{RUN_NAME}*/results.json")]
    return sorted(found, key=lambda p: -(p / "results.json").stat().st_mtime)


def start(
    folder: Path, out: Path, *, start_from: str | None = None, steps: int | None = None
) -> subprocess.Popen[str]:
    """Starts `cellcount train` in the background; its messages go to `out`.log.

    Args:
      folder: Folder with images and dots.
      out: Folder of the run.
      start_from: Model whose weights it begins with; None begins with random ones.
      steps: Number of training steps.
    """
    command = [sys.executable, "-m", "cellcount_jax.cli.main", "train", str(folder)]
    command += ["--out", str(out)]
    command += [] if start_from is None else ["--start-from", start_from]
    command += [] if steps is None else ["--steps", str(steps)]
    with log_path(out).open("w") as log:
        return subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, text=True, env=dict(os.environ)
        )


def log_path(out: Path) -> Path:
    """File of the messages of a run."""
    return out.with_name(f"{out.name}.log")


def last_line(out: Path) -> str:
    """The last message of a run."""
    path = log_path(out)
    lines = path.read_text(errors="replace").splitlines() if path.exists() else []
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def cancel(process: subprocess.Popen[str], *, patience: float = 10.0) -> None:
    """Ends a training; its last checkpoint is kept."""
    process.terminate()
    try:
        process.wait(patience)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def curve(out: Path) -> dict[str, list[tuple[int, float]]]:
    """(step, loss) of training and (step, error) of validation, as far as the run has come."""
    found: dict[str, list[tuple[int, float]]] = {"train": [], "validation": []}
    for line in run_files.read_metrics(epath.Path(out)):
        value = line.get("loss") if line["split"] == "train" else line.get("mae")
        if value is not None:
            found[line["split"]].append((line["step"], value))
    return found


def compare(folder: Path, models: Sequence[str | Path]) -> list[dict[str, Any]]:
    """Errors of several models on the same annotated images.

    Images that trained any of the models are left out as long as others remain.

    Returns:
      For each model `model`, `n_images`, `mae`, `bias`, `f1` and `trained_on` (whether the images
      trained one of them).

    Raises:
      ValueError: A model or an image cannot be read, or nothing is annotated.
    """
    counters = [Counter.load(model) for model in models]
    known = {
        Path(name.partition("@")[0]).stem
        for counter in counters
        for name in counter.facts.get("train_names", ())
    }
    found = [
        [r for r in evaluate_folder(c, folder) if r.status == OK and r.true is not None]
        for c in counters
    ]
    fresh = [[r for r in records if Path(r.name).stem not in known] for records in found]
    kept = fresh if all(fresh) else found
    return [
        {
            "model": str(model),
            **{key: summarise_folder(records).get(key) for key in ("mae", "bias", "f1")},
            "n_images": len(records),
            "trained_on": kept is found,
        }
        for model, records in zip(models, kept, strict=True)
    ]
