"""Remarks of a row: what was left out of a file, assumed or doubted, as the log says it."""

import contextlib
import logging
import threading
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def remarks_of(path: Path) -> Iterator[list[str]]:
    """The warnings of this package about one file, in the order in which they are given.

    Whatever reads, resizes or counts the file need only log a warning for it to stand in the table,
    too; nothing is said twice.

    Args:
      path: of the file, which is left out of the text.
    """
    remarks: list[str] = []
    collector = _Collector(remarks, path)
    log = logging.getLogger("cellcount_jax")
    log.addHandler(collector)
    try:
        yield remarks
    finally:
        log.removeHandler(collector)


class _Collector(logging.Handler):
    """Takes the warnings of the thread that made it; errors stand in the column `status`."""

    def __init__(self, remarks: list[str], path: Path):
        super().__init__(logging.WARNING)
        self._remarks, self._path, self._thread = remarks, path, threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.ERROR or threading.get_ident() != self._thread:
            return
        text = " ".join(record.getMessage().split())
        for name in (str(self._path), self._path.name):
            text = text.removeprefix(f"{name}: ")
        if text not in self._remarks:
            self._remarks.append(text)
