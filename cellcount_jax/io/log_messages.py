"""What other libraries log about damaged files, caught instead of printed."""

import contextlib
import logging
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def caught(logger: str) -> Iterator[list[str]]:
    """Messages that this thread logs under a name meanwhile; none of them is printed."""
    messages: list[str] = []
    thread = threading.get_ident()

    def keep(entry: logging.LogRecord) -> bool:
        if entry.thread != thread:
            return True
        messages.append(entry.getMessage())
        return False

    target = logging.getLogger(logger)
    target.addFilter(keep)
    try:
        yield messages
    finally:
        target.removeFilter(keep)
