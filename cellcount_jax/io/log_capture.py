"""What tifffile logs about a damaged file and reads over, as an error."""

import contextlib
import logging
import re
import threading
from collections.abc import Iterator

from cellcount_jax.io.images.base import ProblemError

_LOG = logging.getLogger(__name__)
_LOCK = threading.RLock()

LAST_OWN_TAG = 532
"""Tags up to here are TIFF's own; damage in private tags beyond does not change the image."""

_FATAL = re.compile(
    r"page offset|offset to page|corrupted tag list|circular reference|virtual_frames|"
    r"missing data offset|missing required tags|shaped series|ImageJ series|"
    r"OME series (raised|is missing|contains|cannot|failed)"
)
_TAG = re.compile(r"TiffTag (\d+)")


@contextlib.contextmanager
def damage_is_an_error() -> Iterator[None]:
    """Raises after the block if tifffile has logged that planes or metadata are lost.

    tifffile goes on with what is left, which would be a stack of fewer planes. Its lines about
    this thread's file go to the package's own log.

    Raises:
      ProblemError: the first of such lines.
    """
    complaints = _Complaints()
    logger = logging.getLogger("tifffile")
    with _LOCK:
        level = logger.level
        logger.addFilter(complaints)
        # A caller may have silenced tifffile, and a filter sees only what passes the level.
        logger.setLevel(min(level, logging.WARNING))
        try:
            yield
        finally:
            logger.removeFilter(complaints)
            logger.setLevel(level)
    for line in complaints.lines:
        tag = _TAG.search(line)
        if _FATAL.search(line) or (tag and "invalid" in line and int(tag[1]) <= LAST_OWN_TAG):
            raise ProblemError(f"is damaged ({_without_file(line)}); save or copy it again")


class _Complaints(logging.Filter):
    """Keeps the lines of one thread from the log."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self._thread = threading.get_ident()

    def filter(self, record: logging.LogRecord) -> bool:
        if record.thread != self._thread:
            return True
        _LOG.info("%s", record.getMessage())
        if record.levelno >= logging.WARNING:
            self.lines.append(record.getMessage())
        return False


def _without_file(line: str) -> str:
    return " ".join(re.sub(r"^<tifffile\.\w+ '[^']*'> ", "", line).split())[:160]
