"""Remarks of a row: what was left out of a file, assumed or doubted, as the log says it."""

import contextlib
import logging
import threading
from collections.abc import Iterator
from pathlib import Path

from cellcount_jax.runtime.path_text import path_text


@contextlib.contextmanager
def remarks_of(path: Path, said: set[str] | None) -> Iterator[list[str]]:
    """The warnings of this package about one file, in the order in which they are given.

    Whatever reads, resizes or counts the file need only log a warning for it to stand in the table,
    too. The log names the file in each and says none twice.

    Args:
      path: of the file, which is left out of the text.
      said: warnings about the file that the log has had; new ones are added. None: the log has had
        all of them.
    """
    remarks: list[str] = []
    log = logging.getLogger("cellcount_jax")
    collector, propagates = _Collector(remarks, path, said), log.propagate
    log.addHandler(collector)
    log.propagate = False  # the collector passes records on
    try:
        yield remarks
    finally:
        log.propagate = propagates
        log.removeHandler(collector)


def error_line(path: Path, error: Exception) -> str:
    """An error as one line that names the file."""
    text = " ".join(str(error).split())[:500] or type(error).__name__
    text = text.replace(str(path), path_text(path)).encode("utf-8", "backslashreplace").decode()
    return text if path_text(path) in text else f"{path_text(path)}: {text}"


class _Collector(logging.Handler):
    """Takes the warnings of the thread that made it; errors stand in the column `status`."""

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
