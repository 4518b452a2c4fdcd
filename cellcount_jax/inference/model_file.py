"""Reads a counter from one file: weights as safetensors, the rest as JSON in the header.

The header's `__metadata__` holds one text, `cellcount`, with the fields

    format   version of this layout and of the metadata's schema; a newer one is refused
    facts    metadata of the checkpoint (method, stage, config, preprocessing, resampling,
             readout) with `training` (data, errors, versions) and `weights` (how stored)
    empty    paths of nested dicts that hold nothing, which tensors alone would lose
    sha256   over all of that and every tensor

Tensors are named by their path in `Variables`, joined by "/". Reading needs neither the folder of
the run nor Orbax. `export.write_model` writes these files.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors

import cellcount_jax
from cellcount_jax.inference import model_file_v1
from cellcount_jax.runtime.error_text import one_line

SCHEMA = 2
"""Version of the layout that is written; this and lower ones are read."""

MODEL_SUFFIX = ".cellcount"

METADATA_KEY = "cellcount"


class ModelFileError(ValueError):
    """A model file cannot be read or written; one line says why."""


def read(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Nested dicts of arrays (16-bit ones converted back to 32), and the metadata.

    Raises:
      ModelFileError: The file is missing, damaged, of another kind or of a newer format.
    """
    header, stored = _open(path)
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


def digest(arrays: Mapping[str, np.ndarray], header: Mapping[str, Any]) -> str:
    """SHA-256 of the header and of every tensor with its name, dtype and shape."""
    found = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name in sorted(arrays):
        value = arrays[name]
        found.update(f"{name} {value.dtype.str} {value.shape}".encode())
        found.update(value.tobytes())
    return found.hexdigest()


def writer_version(facts: Mapping[str, Any]) -> str | None:
    """Version of this package that exported a model; None if it is not an exported one."""
    return ((facts.get("training") or {}).get("exported_with") or {}).get("cellcount_jax")


def current_facts(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Metadata of the current schema, with every field, from those of any schema so far.

    Raises:
      ValueError: The schema is a newer one.
    """
    schema = facts.get("schema", 1)
    if schema > SCHEMA:
        raise ValueError(
            f"its schema is {schema} and this version reads up to {SCHEMA}; install a newer version"
        )
    return model_file_v1.completed(model_file_v1.upgraded(facts) if schema == 1 else facts)


def build_error(path: str | Path, facts: Mapping[str, Any], error: Exception) -> ModelFileError:
    """The error to raise if no counter can be built from the metadata that were read."""
    return ModelFileError(
        f"{path}: version {cellcount_jax.__version__} of cellcount_jax cannot build this model "
        f"({one_line(error, most=200)}); it was written by version "
        f"{writer_version(facts) or 'unknown'}"
    )


def _open(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    if not path.is_file():
        raise ModelFileError(f"{path}: no such file")
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            header = json.loads((file.metadata() or {}).get(METADATA_KEY, "null"))
            names = file.keys() if _readable(header) else ()
            arrays = {name: file.get_tensor(name) for name in names}
    except Exception as error:  # safetensors and json raise errors of various types
        raise ModelFileError(
            f"{path}: damaged or no model file ({one_line(error, most=200)}); copy it again"
        ) from error
    if not isinstance(header, dict) or "format" not in header:
        raise ModelFileError(
            f"{path}: holds no counter of cells; write one with: cellcount export WORKDIR "
            f"model{MODEL_SUFFIX}"
        )
    if not _readable(header):
        raise ModelFileError(
            f"{path}: of format {header['format']}, and version {cellcount_jax.__version__} of "
            f"cellcount_jax reads formats up to {SCHEMA}; install a newer version"
        )
    if not isinstance(header.get("facts"), dict) or not isinstance(header.get("empty"), list):
        raise ModelFileError(f"{path}: damaged (its header lacks fields); copy it again")
    return header, arrays


def _readable(header: Any) -> bool:
    number = header.get("format") if isinstance(header, dict) else None
    return isinstance(number, int) and 1 <= number <= SCHEMA


def _node(tree: dict[str, Any], path: list[str]) -> dict[str, Any]:
    for key in path:
        tree = tree.setdefault(key, {})
    return tree
