"""A workdir belongs to one run: its config, its data, one process at a time."""

import contextlib
import hashlib
import json
import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from etils import epath
from ml_collections import ConfigDict

from cellcount_jax.data.sample import Sample
from cellcount_jax.datasets.load import SplitDataset
from cellcount_jax.inference.model_file import SCHEMA
from cellcount_jax.runtime import distributed, run_files
from cellcount_jax.runtime.lock import exclusive

log = logging.getLogger(__name__)

IGNORED_FIELDS = ("data.folder", "data.name")
"""The path of a lab's folder and how it is spelled; its content is compared (`check_data`)."""

N_NAMES_IN_MESSAGE = 4


class WorkdirError(ValueError):
    """A workdir belongs to another run; one line says how it differs."""


@contextlib.contextmanager
def locked(workdir: epath.Path) -> Iterator[None]:
    """Locks a workdir against other processes of this machine; one in a bucket is not locked.

    Raises:
      LockedError: Another run uses it.
    """
    if "://" in os.fspath(workdir) or not distributed.is_first():
        yield
        return
    place = Path(workdir)
    lock, is_new = place / ".lock", not place.exists()
    with exclusive(lock, what=str(place), wait=False):
        try:
            yield
        finally:
            # A refused start leaves nothing behind.
            if is_new and list(place.iterdir()) == [lock]:
                lock.unlink()
                place.rmdir()


def results_of(workdir: epath.Path) -> dict[str, Any] | None:
    """Results of a finished run, else None."""
    if not (workdir / "results.json").exists():
        return None
    log.info("%s: finished before; delete the folder to train again", workdir)
    return dict(_json(workdir / "results.json"))


def check_config(config: ConfigDict, workdir: epath.Path) -> None:
    """Checks that the run in a folder, if any, has this config.

    Raises:
      WorkdirError: It has another config.
    """
    path = workdir / "config.json"
    if not path.exists():
        return
    mine, theirs = _as_stored(config), _json(path)
    schema = theirs.get("schema", 1)
    if schema != SCHEMA:
        raise WorkdirError(
            f"{workdir}: holds a run of another version of cellcount_jax (config schema {schema}, "
            f"this version has {SCHEMA}); give another --workdir or delete this one"
        )
    differing = sorted(_differences(mine, theirs, is_lab=(workdir / "data.json").exists()))
    if differing:
        shown = ", ".join(differing[:4]) + (" ..." if len(differing) > 4 else "")
        raise WorkdirError(
            f"{workdir}: belongs to a run with another config ({shown}); "
            "give another --workdir or delete this one"
        )


def check_data(source: SplitDataset, workdir: epath.Path) -> None:
    """Checks that the run in a folder, if any, used these images and dots.

    Raises:
      WorkdirError: Some have changed, been added or removed.
    """
    path = workdir / "data.json"
    if not path.exists():
        return
    mine, theirs = fingerprint(source), _json(path)
    changed = sorted(n for n in mine.keys() | theirs.keys() if mine.get(n) != theirs.get(n))
    if changed:
        shown = ", ".join(changed[:N_NAMES_IN_MESSAGE])
        shown += " ..." if len(changed) > N_NAMES_IN_MESSAGE else ""
        raise WorkdirError(
            f"{workdir}: {len(changed)} of {len(mine)} images or their dots have changed since "
            f"this training began ({shown}); delete this folder to train on the current ones, "
            "or give another one"
        )


def claim(config: ConfigDict, source: SplitDataset, workdir: epath.Path, *, is_lab: bool) -> None:
    """Records the config of a new run and, for a lab's folder, which may change, its digests."""
    if not (workdir / "config.json").exists():
        run_files.write_json(workdir / "config.json", _as_stored(config))
        if is_lab:
            run_files.write_json(workdir / "data.json", fingerprint(source))


def release(workdir: epath.Path) -> None:
    """Releases a claim if training ended before anything was saved."""
    if not (workdir / "checkpoints").exists():
        for name in ("config.json", "data.json"):
            (workdir / name).unlink(missing_ok=True)


def fingerprint(source: SplitDataset) -> dict[str, str]:
    """A digest of each sample's split, pixels, dots and places marked as no cell, by name."""
    return {
        sample.name: _digest(split, sample)
        for split, samples in source.splits.items()
        for sample in samples
    }


def _digest(split: str, sample: Sample) -> str:
    found = hashlib.blake2b(f"{split} {sample.image.shape} {sample.image.dtype}".encode())
    found.update(sample.image.tobytes())
    if sample.dots is not None:
        found.update(b"dots" + sample.dots.astype("<f4").tobytes())
    if sample.not_cells is not None:
        found.update(b"not cells" + sample.not_cells.astype("<f4").tobytes())
    return found.hexdigest()[:24]


def _as_stored(config: ConfigDict) -> dict[str, Any]:
    return {"schema": SCHEMA, **json.loads(config.to_json_best_effort())}


def _json(path: epath.Path) -> Mapping[str, Any]:
    try:
        return run_files.read_json(path)
    except ValueError as error:
        raise WorkdirError(str(error)) from error


def _differences(mine: Any, theirs: Any, name: str = "", *, is_lab: bool) -> list[str]:
    if isinstance(mine, dict) and isinstance(theirs, dict):
        lines = []
        for key in mine.keys() | theirs.keys():
            inner = f"{name}.{key}".lstrip(".")
            lines += _differences(mine.get(key), theirs.get(key), inner, is_lab=is_lab)
        return lines
    if mine == theirs or (is_lab and name in IGNORED_FIELDS):
        return []
    return [f"{name} is {theirs!r} there, {mine!r} here"]
