"""Warnings that libraries log about damaged files, caught instead of printed."""

import contextlib
import logging
import re
import threading
from collections.abc import Callable, Iterator

from cellcount_jax.io.images.base import ProblemError

_LOG = logging.getLogger(__name__)
_LOCK = threading.RLock()

_LAST_STANDARD_TAG = 532
"""Tags up to here are TIFF's own; damage in private tags beyond does not change the image."""

_FATAL = re.compile(
    r"page offset|offset to page|corrupted tag list|circular reference|virtual_frames|"
    r"missing data offset|missing required tags|shaped series|ImageJ series|"
    r"OME series (raised|is missing|contains|cannot|failed)"
)
_TAG = re.compile(r"TiffTag (\d+)")


@contextlib.contextmanager
def captured_warnings(
    logger_name: str, check: Callable[[str], None] = lambda message: None
) -> Iterator[list[str]]:
    """Warnings that this thread logs under a name within the block; they go to our own log.

    Args:
      logger_name: Name of the library's logger.
      check: Called with each warning when it is logged; what it raises ends the library's work.
    """
    warnings: list[str] = []
    thread = threading.get_ident()
    logger = logging.getLogger(logger_name)
    with _LOCK:
        disabled, is_enabled = logger.disabled, logger.isEnabledFor

        def capture(record: logging.LogRecord) -> bool:
            if record.thread != thread:
                return not disabled and is_enabled(record.levelno)
            if record.levelno >= logging.WARNING:
                warnings.append(record.getMessage())
                check(warnings[-1])
            _LOG.info("%s", record.getMessage())
            return False

        # Damage must be seen although the caller has silenced the library: by its level, by
        # logging.disable, or by a configuration that disables existing loggers.
        logger.disabled, logger.isEnabledFor = False, _warnings_are_enabled  # type: ignore[method-assign]
        logger.addFilter(capture)
        try:
            yield warnings
        finally:
            logger.removeFilter(capture)
            logger.disabled, logger.isEnabledFor = disabled, is_enabled  # type: ignore[method-assign]


def _warnings_are_enabled(level: int) -> bool:
    return level >= logging.WARNING


@contextlib.contextmanager
def tiff_damage_is_an_error() -> Iterator[None]:
    """Raises if tifffile logs that planes or metadata are lost.

    tifffile continues with what is left, which would be a stack of fewer planes, or follows a cycle
    of pages without end.

    Raises:
      ProblemError: The first of such warnings.
    """
    with captured_warnings("tifffile", _check_tiff) as warnings:
        yield
    for warning in warnings:  # tifffile may have caught the error and logged another warning
        _check_tiff(warning)


def _check_tiff(warning: str) -> None:
    tag = _TAG.search(warning)
    standard = tag is not None and int(tag[1]) <= _LAST_STANDARD_TAG
    if _FATAL.search(warning) or (standard and "invalid" in warning):
        text = " ".join(re.sub(r"^<tifffile\.[^>]*> ", "", warning).split())
        raise ProblemError(f"is damaged ({text[:160]}); save or copy it again")
