"""Fixtures and settings shared by all tests."""

import functools
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

# Tests share compiled programs, also across processes and runs. JAX reads this when imported.
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR", str(Path(tempfile.gettempdir()) / "cellcount_jax_test_programs")
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")
# Test processes return freed memory to the system.
os.environ.setdefault("CELLCOUNT_LARGE_PAGES", "0")

import flax.linen as nn
import jax
import numpy as np
import optax
import pytest

GOLDEN_DIR = Path(__file__).parent / "golden"

# A wrong shape or dtype is an error instead of a broadcast or a conversion that nobody sees.
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")


def allow_promotion(module: ModuleType, name: str) -> None:
    """Exempts a function of another library, which promotes dtypes on purpose, from this."""
    function = getattr(module, name)

    @functools.wraps(function)
    def exempted(*args, **kwargs):
        with jax.numpy_dtype_promotion("standard"):
            return function(*args, **kwargs)

    setattr(module, name, exempted)


allow_promotion(optax.tree, "bias_correction")  # float ** int32
# bfloat16 features, float32 statistics
allow_promotion(nn.normalization, "_compute_stats")
allow_promotion(nn.normalization, "_normalize")


@pytest.fixture(scope="session")
def raw_dir() -> Path:
    """Folder of the published datasets; tests that need real images are skipped without it."""
    value = os.environ.get("CELLCOUNT_RAW_DIR")
    if not value:
        pytest.skip("CELLCOUNT_RAW_DIR is not set")
    return Path(value).resolve()


@pytest.fixture(scope="session")
def golden() -> Callable[[str], dict[str, np.ndarray]]:
    """Reads one file of golden input/output pairs (tests/golden/README.md)."""

    def load(name: str) -> dict[str, np.ndarray]:
        with np.load(GOLDEN_DIR / f"{name}.npz") as arrays:
            return dict(arrays)

    return load


QUICK_COMPILATION = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
"""Environment of processes that compile as with `quick_compilation`."""


@pytest.fixture(scope="module")
def quick_compilation() -> Iterator[None]:
    """Compiles without XLA's costly optimisations, in a third of the time.

    For tests of what runs do and leave behind, which compile a lot and compute little. Tests of
    numbers use programs as users get them.
    """
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)
