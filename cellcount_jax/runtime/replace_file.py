"""Files that are whole at any moment: written beside, then renamed."""

import contextlib
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def write_file(path: Path, content: str | bytes) -> None:
    """Writes a whole file by `replacing`; text as UTF-8. Makes its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, "wb") as file:
        file.write(
            content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content
        )


@contextlib.contextmanager
def replacing(path: Path, mode: str = "w", **options: Any) -> Iterator[Any]:
    """An open file that takes the place of `path` when the block ends without an error.

    Where it cannot be written to its end (a full disk, a killed process), an old file stays as it
    is.

    Args:
      path: of the file; its folder must exist.
      mode: "w" or "wb".
      **options: of `open`, such as `encoding`.
    """
    # Not from the name itself, which may be as long as names can be.
    beside = path.with_name(f".new-{os.getpid()}-{zlib.crc32(os.fsencode(path.name)):08x}")
    try:
        with beside.open(mode, **options) as file:
            yield file
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
