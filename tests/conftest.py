"""Fixtures shared by all tests: where the reference pairs and the real pictures are."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(scope="session")
def raw_dir() -> Path:
    """Folder of the benchmark data as published; tests that need it are skipped without it."""
    value = os.environ.get("CELLCOUNT_RAW_DIR")
    if not value:
        pytest.skip("CELLCOUNT_RAW_DIR is not set")
    return Path(value).resolve()


@pytest.fixture(scope="session")
def golden(raw_dir: Path) -> Callable[[str], dict[str, np.ndarray]]:
    """Reads one file of input/output pairs of the original authors' code or float64 references."""

    def load(name: str) -> dict[str, np.ndarray]:
        path = raw_dir.parent / "golden" / f"{name}.npz"
        if not path.exists():
            pytest.skip(f"{path} is missing")
        with np.load(path) as arrays:
            return dict(arrays)

    return load
