"""Fixtures shared by all tests: where the reference pairs and the real images are."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

# Programs compiled in one test serve the others, whatever process they run in.
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR", str(Path(tempfile.gettempdir()) / "cellcount_jax_test_programs")
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")
# The tests' process gives back what it does not need.
os.environ.setdefault("CELLCOUNT_LARGE_PAGES", "0")


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
