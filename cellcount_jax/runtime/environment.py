"""Which software a result was made with."""

import importlib.metadata
import subprocess
from collections.abc import Sequence
from pathlib import Path


def package_versions(packages: Sequence[str]) -> dict[str, str]:
    """Installed versions of this package and of others, by name."""
    return {name: importlib.metadata.version(name) for name in ("cellcount_jax", *packages)}


def git_revision() -> str | None:
    """Commit of the checkout that this package runs from; None where it is not one."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
