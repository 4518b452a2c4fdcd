"""A counter in one file: weights as safetensors, everything else as JSON in the file's header.

The header's `__metadata__` holds one text, `cellcount`, with the fields

    format   number of this layout; a newer one is refused
    facts    what a checkpoint says of itself (method, stage, config, preprocessing, readout,
             patches, scale) with `training` (data, errors, versions) and `weights` (how stored)
    empty    paths of nested dicts that hold nothing, which tensors alone would lose
    sha256   over all of that and every tensor

Tensors are named by their path in `Variables`, joined by "/". Nothing here needs the folder of the
run or Orbax to read.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

import cellcount_jax
from cellcount_jax.export import provenance
from cellcount_jax.inference.counter import MODEL_ENDING, Counter, as_variables, from_facts

FORMAT = 1
"""Number of the layout that is written; this and lower ones are read."""

HALF_LIMIT = float(np.finfo(np.float16).max)
"""Larger weights cannot be stored in 16 bits."""

_KEY = "cellcount"


class ModelFileError(ValueError):
    """A model file cannot be used or written; one line says why."""


def load(path: str | Path) -> Counter:
    """The counter of a model file.

    Raises:
      ModelFileError: the file is missing, damaged, of another kind or of a newer format.
    """
    tree, facts = read(Path(path))
    try:
        return from_facts(facts, as_variables(tree))
    except Exception as error:  # Settings of another version can miss anything.
        raise ModelFileError(
            f"{path}: version {cellcount_jax.__version__} of cellcount_jax cannot build this model "
            f"({_one_line(error)}); it was written by {_writer(facts)}"
        ) from error


def export(
    workdir: str | Path, target: Path, *, stage: str | None = None, half: bool = False
) -> dict[str, Any]:
    """Writes the counter of a finished run, or of another model file, as one file.

    Args:
      workdir: of the run, or a model file.
      target: file to write, with the ending `.cellcount`.
      stage: of the method; the last one if not given.
      half: store weights with 16 bits instead of 32.

    Returns:
      The facts in the file.

    Raises:
      ValueError: no finished run there, or the file cannot be written.
    """
    counter = provenance.load_with_training(workdir, stage=stage)
    return write(target, counter.variables._asdict(), counter.facts, half=half)


def write(
    target: Path, tree: Mapping[str, Any], facts: Mapping[str, Any], *, half: bool = False
) -> dict[str, Any]:
    """Writes nested dicts of arrays and their facts; an old file stays until the new one is whole.

    Args:
      target: file to write.
      tree: of a counter's variables, as `Variables._asdict()`.
      facts: plain JSON, as a checkpoint holds them.
      half: store matrices and kernels with 16 bits. Vectors (biases, batch statistics) are small
        and stay as they are, and so does what 16 bits cannot hold.

    Returns:
      The facts in the file; `weights` says how weights are stored and how far off they may be.
    """
    if target.suffix != MODEL_ENDING:
        raise ModelFileError(f"{target}: a model file's name ends in {MODEL_ENDING}")
    arrays = {name: np.array(value, order="C") for name, value in _leaves(tree)}
    stored = {name: _halved(value) if half else value for name, value in arrays.items()}
    facts = {**facts, "weights": _weights_facts(arrays, stored)}
    header: dict[str, Any] = {"format": FORMAT, "facts": facts, "empty": sorted(_empty(tree))}
    try:
        header = json.loads(json.dumps(header, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ModelFileError(f"{target}: facts are not plain JSON ({_one_line(error)})") from error
    text = json.dumps({**header, "sha256": digest(stored, header)}, sort_keys=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_name(f".{target.name}.new")
    beside.write_bytes(safetensors.numpy.save(stored, metadata={_KEY: text}))
    os.replace(beside, target)
    return header["facts"]


def read(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Nested dicts of arrays, 32 bits again where 16 are stored, and the facts.

    Raises:
      ModelFileError: see `load`.
    """
    header, stored = _open(path, tensors=True)
    claimed = header.pop("sha256", None)
    if digest(stored, header) != claimed:
        raise ModelFileError(
            f"{path}: the content does not fit its checksum, so the file was damaged or changed; "
            "copy it again or export it again"
        )
    is_half = header["facts"].get("weights", {}).get("dtype") == "float16"
    tree: dict[str, Any] = {}
    for name in header["empty"]:
        _node(tree, name.split("/"))
    for name, value in stored.items():
        *parents, last = name.split("/")
        as_float32 = is_half and value.dtype == np.float16
        _node(tree, parents)[last] = value.astype(np.float32) if as_float32 else value
    return tree, header["facts"]


def read_facts(path: Path) -> dict[str, Any]:
    """Facts of a model file without reading its weights; they are not checked.

    Raises:
      ModelFileError: see `load`.
    """
    return _open(path, tensors=False)[0]["facts"]


def checksum(path: Path) -> str:
    """SHA-256 that a model file claims for its content; `read` checks it.

    Raises:
      ModelFileError: see `load`.
    """
    return _open(path, tensors=False)[0]["sha256"]


def digest(arrays: Mapping[str, np.ndarray], header: Mapping[str, Any]) -> str:
    """SHA-256 over the header and every tensor with its name, dtype and shape."""
    found = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name in sorted(arrays):
        value = arrays[name]
        found.update(f"{name} {value.dtype.str} {value.shape}".encode())
        found.update(value.tobytes())
    return found.hexdigest()


def _open(path: Path, *, tensors: bool) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    if not path.is_file():
        raise ModelFileError(f"{path}: no such file")
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            header = json.loads((file.metadata() or {}).get(_KEY, "null"))
            names = file.keys() if tensors and _readable(header) else ()
            arrays = {name: file.get_tensor(name) for name in names}
    except Exception as error:  # safetensors and json raise kinds of their own
        raise ModelFileError(
            f"{path}: damaged or no model file ({_one_line(error)}); copy it again"
        ) from error
    if not isinstance(header, dict) or "format" not in header:
        raise ModelFileError(
            f"{path}: holds no counter of cells; write one with: cellcount export WORKDIR "
            f"model{MODEL_ENDING}"
        )
    if not _readable(header):
        raise ModelFileError(
            f"{path}: of format {header['format']}, and version {cellcount_jax.__version__} of "
            f"cellcount_jax reads formats up to {FORMAT}; install a newer version"
        )
    if not isinstance(header.get("facts"), dict) or not isinstance(header.get("empty"), list):
        raise ModelFileError(f"{path}: damaged (its header lacks fields); copy it again")
    return header, arrays


def _readable(header: Any) -> bool:
    number = header.get("format") if isinstance(header, dict) else None
    return isinstance(number, int) and 1 <= number <= FORMAT


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if "/" in key:
            raise ModelFileError(f"the name {key!r} of a weight has a slash in it")
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}/")
        else:
            yield f"{prefix}{key}", value


def _empty(tree: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _empty(value, f"{prefix}{key}/") if value else (f"{prefix}{key}",)


def _node(tree: dict[str, Any], path: list[str]) -> dict[str, Any]:
    for key in path:
        tree = tree.setdefault(key, {})
    return tree


def _halved(value: np.ndarray) -> np.ndarray:
    if value.dtype != np.float32 or value.ndim < 2 or np.abs(value).max(initial=0) > HALF_LIMIT:
        return value
    return value.astype(np.float16)


def _weights_facts(
    arrays: Mapping[str, np.ndarray], stored: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    errors = [
        float(np.abs(value - stored[name].astype(value.dtype)).max(initial=0))
        for name, value in arrays.items()
        if stored[name].dtype != value.dtype
    ]
    return {
        "dtype": "float16" if errors else "float32",
        "number": sum(value.size for value in arrays.values()),
        "bytes": sum(value.nbytes for value in stored.values()),
        "max_error": max(errors, default=0.0),
    }


def _writer(facts: Mapping[str, Any]) -> str:
    versions = (facts.get("training") or {}).get("exported_with") or {}
    return f"version {versions.get('cellcount_jax', 'unknown')}"


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
