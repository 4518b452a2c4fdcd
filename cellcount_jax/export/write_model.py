"""Writes a counter as one file, which `inference.model_file` describes and reads."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from cellcount_jax.export import provenance
from cellcount_jax.inference.model_file import (
    METADATA_KEY,
    MODEL_SUFFIX,
    SCHEMA,
    ModelFileError,
    digest,
)
from cellcount_jax.runtime.error_text import one_line
from cellcount_jax.runtime.replace_file import write_file

HALF_LIMIT = float(np.finfo(np.float16).max)
"""Larger weights cannot be stored in 16 bits."""


def export_model(
    workdir: str | Path, target: Path, *, stage: str | None = None, half: bool = False
) -> dict[str, Any]:
    """Writes the counter of a finished run, or of another model file, as one file.

    Args:
      workdir: Folder of the run, or a model file.
      target: File to write, with the extension `.cellcount`.
      stage: Stage of the method; the last one if not given.
      half: Store weights with 16 bits instead of 32.

    Returns:
      The facts in the file.

    Raises:
      ValueError: No finished run there, or the file cannot be written.
    """
    counter = provenance.load_with_training(workdir, stage=stage)
    return write_model(target, counter.variables._asdict(), counter.facts, half=half)


def write_model(
    target: Path, tree: Mapping[str, Any], facts: Mapping[str, Any], *, half: bool = False
) -> dict[str, Any]:
    """Writes nested dicts of arrays and their facts; replaces an existing file in one step.

    Args:
      target: File to write.
      tree: A counter's variables, as from `Variables._asdict()`.
      facts: Plain JSON, as a checkpoint holds them.
      half: Store matrices and kernels with 16 bits. Vectors (biases, batch statistics), which are
        small, and values beyond the range of 16 bits keep 32.

    Returns:
      The facts in the file; `weights` says how weights are stored and their largest error.

    Raises:
      ModelFileError: The name has another extension, a weight's name a slash, or the facts are not
        plain JSON.
    """
    if target.suffix != MODEL_SUFFIX:
        raise ModelFileError(f"{target}: a model file's name ends in {MODEL_SUFFIX}")
    arrays = {name: np.array(value, order="C") for name, value in _leaves(tree)}
    stored = {name: _halved(value) if half else value for name, value in arrays.items()}
    facts = {**facts, "weights": _weights_facts(arrays, stored)}
    header: dict[str, Any] = {"format": SCHEMA, "facts": facts, "empty": sorted(_empty_paths(tree))}
    try:
        header = json.loads(json.dumps(header, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ModelFileError(
            f"{target}: facts are not plain JSON ({one_line(error, most=200)})"
        ) from error
    text = json.dumps({**header, "sha256": digest(stored, header)}, sort_keys=True)
    write_file(target, safetensors.numpy.save(stored, metadata={METADATA_KEY: text}))
    return header["facts"]


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if "/" in key:
            raise ModelFileError(f"the name {key!r} of a weight has a slash in it")
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}/")
        else:
            yield f"{prefix}{key}", value


def _empty_paths(tree: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _empty_paths(value, f"{prefix}{key}/") if value else (f"{prefix}{key}",)


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
