"""A lock on a folder or table, held by one process at a time."""

import contextlib
import datetime
import logging
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

log = logging.getLogger(__name__)


class LockedError(RuntimeError):
    """Another process holds the lock; one line says which, and since when."""


@contextlib.contextmanager
def exclusive(path: Path, *, what: str, wait: bool) -> Iterator[None]:
    """Holds a lock while the block runs.

    The operating system gives the lock back when its owner ends, however that happens, so that
    nobody has to remove a file by hand.

    Args:
      path: The lock file, created beside what it protects; it holds the owner's name.
      what: Name of what is protected, for messages.
      wait: Until the owner is done; otherwise it is an error.

    Raises:
      LockedError: Another process holds the lock, and `wait` is False.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b") as file:
        told = False
        while not _try_lock(file):
            file.seek(0)
            owner = file.read(200).decode("utf-8", "replace").strip() or "another process"
            if not wait:
                raise LockedError(f"{what} is in use by {owner}; wait until it has ended")
            if not told:
                log.warning("%s is in use by %s; waiting", what, owner)
                told = True
            time.sleep(0.2)
        now = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
        file.seek(0)
        file.truncate()
        file.write(f"process {os.getpid()} on {socket.gethostname()} since {now}\n".encode())
        file.flush()
        yield


if os.name == "nt":
    import msvcrt

    def _try_lock(file: BinaryIO) -> bool:
        try:
            file.seek(1 << 20)  # beyond the text, which others read
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        except OSError:
            return False
        return True
else:
    import fcntl

    def _try_lock(file: BinaryIO) -> bool:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True
