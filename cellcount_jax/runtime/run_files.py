"""Text files of a run: metrics and results, through etils so that gs:// works.

Only the first host writes. A file is replaced by renaming a new one, so that a killed run leaves
the old one or the new one.
"""

import json
import logging
import math
import os
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from etils import epath

from cellcount_jax.runtime.replace_file import naming

log = logging.getLogger(__name__)


def finite(value: Any) -> Any:
    """Plain JSON types; numbers that are not finite become None."""
    if isinstance(value, Mapping):
        return {str(k): finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [finite(v) for v in value]
    if isinstance(value, np.ndarray | jax.Array):
        return finite(np.asarray(value).tolist())
    if isinstance(value, np.generic):
        return finite(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def write_json(path: epath.Path, value: Any) -> None:
    """Replaces a JSON file atomically."""
    write_text(path, json.dumps(finite(value), indent=2) + "\n")


def read_json(path: epath.Path) -> dict[str, Any]:
    """The object in a JSON file of a run.

    Raises:
      ValueError: The file is damaged.
    """
    try:
        return dict(json.loads(path.read_text()))
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(
            f"{path}: damaged ({error}); restore it from a copy, or delete the folder and train "
            "again"
        ) from error


def write_text(path: epath.Path, text: str) -> None:
    """Replaces a text file atomically."""
    if jax.process_index() != 0:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.parent / f".{path.name}.new"
    with naming(path, new):
        new.write_bytes(text.encode("utf-8", "backslashreplace"))
        new.replace(path)


def append_metrics(workdir: epath.Path, line: Mapping[str, Any]) -> None:
    """Appends a line to `metrics.jsonl`: step, stage, split, and values by name."""
    if jax.process_index() != 0:
        return
    path, text = workdir / "metrics.jsonl", json.dumps(finite(line)) + "\n"
    if "://" in os.fspath(path):  # Objects in a bucket cannot be appended to.
        path.write_text((path.read_text() if path.exists() else "") + text)
        return
    with naming(path), path.open("a") as file:
        file.write(text)


def read_metrics(workdir: epath.Path) -> list[dict[str, Any]]:
    """Lines of `metrics.jsonl` that name a stage and a step; others are damaged or cut off."""
    path = workdir / "metrics.jsonl"
    if not path.exists():
        return []
    lines = [_metrics(line) for line in path.read_bytes().split(b"\n")]
    # A killed run may leave a part of its last line.
    damaged = sum(line is None for line in lines[:-1])
    if damaged:
        log.warning("%s: %d damaged lines are left out", path, damaged)
    return [line for line in lines if line is not None]


def _metrics(line: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    fields = (("stage", str), ("step", int))
    whole = isinstance(found, dict) and all(isinstance(found.get(n), k) for n, k in fields)
    return found if whole else None


def rewind_metrics(workdir: epath.Path, *, stage: str, step: int) -> None:
    """Removes the lines of a stage after `step`, which a resumed run writes again."""
    if not (workdir / "metrics.jsonl").exists():
        return
    kept = [m for m in read_metrics(workdir) if m["stage"] != stage or m["step"] <= step]
    write_text(workdir / "metrics.jsonl", "".join(json.dumps(m) + "\n" for m in kept))
