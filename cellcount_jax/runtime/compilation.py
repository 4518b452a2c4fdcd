"""Compiled programs are kept in a user folder: only the first run waits for the compiler."""

import os
from pathlib import Path

import jax

WORTH_KEEPING = 0.2
"""Seconds to compile; what takes less is not written. A small counter has several of half a second,
which JAX by itself would compile anew in every process."""


def use_cache() -> None:
    """Keeps compiled programs in `CELLCOUNT_CACHE` or the user's cache folder.

    `JAX_COMPILATION_CACHE_DIR`, where it is set, takes precedence.
    """
    if os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        return
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    root = os.environ.get("CELLCOUNT_CACHE") or Path(base) / "cellcount_jax"
    jax.config.update("jax_compilation_cache_dir", str(Path(root) / "programs"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", WORTH_KEEPING)
