"""A file to which every act is appended at once, so that a killed program loses none.

One JSON object a line. A line counts once its line break is on the disk; what a killed write left
after the last line break is cut off when the file is opened again.
"""

import json
import logging
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)


class JournalError(RuntimeError):
    """The journal cannot be read or written; one line says what to do."""


class Journal:
    """An append-only file of acts, open for writing."""

    def __init__(self, path: Path) -> None:
        """Opens or makes the file; `entries` are those that it held.

        Raises:
          JournalError: The file cannot be opened, or is damaged before its end.
        """
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
            with open(self._file, "rb", closefd=False) as file:
                data = file.read()
        except OSError as error:
            raise JournalError(f"{path}: cannot be opened ({error.strerror})") from error
        self._end = data.rfind(b"\n") + 1
        if len(data) > self._end:
            log.warning("%s: an act that was not written to its end is left out", path)
            os.ftruncate(self._file, self._end)
        try:
            self.entries = list(self._parse(data[: self._end]))
        except JournalError:
            os.close(self._file)
            raise

    def _parse(self, data: bytes) -> Iterator[dict[str, Any]]:
        for number, line in enumerate(data.splitlines(), 1):
            try:
                entry = json.loads(line)
                entry["op"], entry["time"]
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                raise JournalError(
                    f"{self.path}, line {number}: is damaged; restore the file from a backup, or "
                    "move it away to begin again from the saved dots"
                ) from error
            yield entry

    def append(self, op: str, content: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Writes one entry; it is on the disk when this returns.

        Raises:
          JournalError: It could not be written; the file is as it was before.
        """
        entry = {"op": op, "time": round(time.time(), 3), **(content or {})}
        data = json.dumps(entry, separators=(",", ":"), allow_nan=False).encode() + b"\n"
        try:
            written = 0
            while written < len(data):
                written += os.write(self._file, data[written:])
            os.fdatasync(self._file) if hasattr(os, "fdatasync") else os.fsync(self._file)
        except OSError as error:
            os.ftruncate(self._file, self._end)
            raise JournalError(
                f"{self.path}: NOT SAVED ({error.strerror}); free space or check the disk, then "
                "repeat the last act"
            ) from error
        self._end += len(data)
        self.entries.append(entry)
        return entry

    def close(self) -> None:
        """Closes the file; nothing can be appended afterwards."""
        os.close(self._file)
