"""Remarks of a row: the warnings logged about its file (what was left out, assumed or doubted)."""

import contextlib
import logging
import threading
from collections.abc import Iterator
from pathlib import Path

from cellcount_jax.runtime.error_text import one_line
from cellcount_jax.runtime.path_text import path_text


@contextlib.contextmanager
def remarks_of(path: Path, said: set[str] | None) -> Iterator[list[str]]:
    """Collects the warnings of this package about one file, in order.

    Code that reads, resizes or counts the file only has to log a warning to get it into the table.
    In the log, each warning names the file and none appears twice.

    Args:
      path: Path of the file; left out of the text.
      said: Warnings about the file that were logged before; new ones are added. None: log none.
    """
    remarks: list[str] = []
    log = logging.getLogger("cellcount_jax")
    collector, propagates = _Collector(remarks, path, said), log.propagate
    log.addHandler(collector)
    log.propagate = False  # the collector forwards records
    try:
        yield remarks
    finally:
        log.propagate = propagates
        log.removeHandler(collector)


def error_line(path: Path, error: Exception) -> str:
    """An error as one line that names the file."""
    text = one_line(error, most=500)
    text = text.replace(str(path), path_text(path)).encode("utf-8", "backslashreplace").decode()
    return text if path_text(path) in text else f"{path_text(path)}: {text}"


class _Collector(logging.Handler):
    """Collects the warnings of the thread that made it; errors go to the column `status`."""

    def __init__(self, remarks: list[str], path: Path, said: set[str] | None):
        super().__init__()
        self._remarks, self._path, self._said = remarks, path, said
        self._thread = threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        own = threading.get_ident() == self._thread
        if own and logging.WARNING <= record.levelno < logging.ERROR:
            text = " ".join(record.getMessage().split())
            for name in (str(self._path), self._path.name):
                text = text.removeprefix(f"{name}: ")
            if text not in self._remarks:
                self._remarks.append(text)
            if self._said is None or text in self._said:
                return
            self._said.add(text)
            record.msg, record.args = f"{path_text(self._path)}: {text}", ()
        logging.getLogger().handle(record)
