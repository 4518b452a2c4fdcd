"""Fingerprints of the images that were counted, kept beside the table."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from cellcount_jax.runtime.replace_file import write_file

BLOCK, N_BLOCKS = 1 << 20, 16


def fingerprint(path: Path) -> str:
    """Hash of a file's size and content: all of it up to 16 MiB, else 16 blocks of 1 MiB.

    For a folder (OME-Zarr), a hash of the names, sizes and modification times of its files.

    Raises:
      OSError: It cannot be read, or is neither a file nor a folder.
    """
    found = hashlib.blake2b(digest_size=16)
    if path.is_dir():
        for file in sorted(p for p in path.rglob("*") if p.is_file()):
            facts = file.stat()
            found.update(repr((str(file.relative_to(path)), facts.st_size)).encode())
            found.update(str(facts.st_mtime_ns).encode())
        return found.hexdigest()
    if not path.is_file():  # reading a pipe would never end
        raise OSError(f"{path}: is not a regular file")
    size = path.stat().st_size
    found.update(str(size).encode())
    last = max(size - BLOCK, 0)
    starts = list(range(0, size, BLOCK))
    if len(starts) > N_BLOCKS:
        starts = [last * i // (N_BLOCKS - 1) for i in range(N_BLOCKS)]
    with path.open("rb") as stored:
        for start in starts:
            stored.seek(start)
            found.update(stored.read(BLOCK))
    return found.hexdigest()


def read(table: Path) -> dict[str, str]:
    """Fingerprints by image path (as text); empty if they were not written."""
    try:
        return dict(json.loads(_beside(table).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, RecursionError):
        return {}


def write(table: Path, contents: Mapping[str, str]) -> None:
    """Writes the fingerprints beside a table."""
    write_file(_beside(table), json.dumps(contents, indent=1, sort_keys=True) + "\n")


def _beside(table: Path) -> Path:
    return table.with_name(f".{table.stem}.contents.json")
