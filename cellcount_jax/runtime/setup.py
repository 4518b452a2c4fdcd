"""Setup of a process before it computes: logging, a cache of compiled programs, huge pages.

JAX is imported inside the functions: commands that compute nothing start without it.
"""

import contextlib
import ctypes
import functools
import io
import logging
import os
import platform
import signal
import sys
import threading
from pathlib import Path
from typing import NoReturn

from absl import logging as absl_logging

MIN_COMPILE_SECONDS = 0.2
"""Programs that compile faster are not cached. A small counter has several of half a second, which
JAX by default would compile again in every process."""

HUGE_PAGES_VARIABLE = "CELLCOUNT_LARGE_PAGES"
"""Environment variable; 0 leaves the C library as it is."""

MEMORY_SHARE = 0.75
"""Maximum fraction of the machine's memory in huge pages. Only what is used is allocated."""

# From glibc's malloc.h and Linux's mman.h.
_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX, _MADV_HUGEPAGE = -1, -4, -8, 14
_HUGE_PAGE = 2**21


def configure_process(*, verbose: bool = False) -> None:
    """Sets up logging, the cache of compiled programs and huge pages.

    Call it before anything computes, and after joining other hosts (`runtime.distributed`): it
    initialises JAX's backend.

    Args:
      verbose: See `configure_logging`.
    """
    configure_logging(verbose=verbose)
    cache_programs()
    use_huge_pages()


SIGNALLED = 128
"""Least exit status of a process that a signal stopped."""

SIGNAL_AGAIN_SECONDS = 0.05
"""After which a signal is sent again that fell into a collection of garbage."""


_STOPS: list[KeyboardInterrupt] = []
"""Interrupts of this process."""


class Terminated(KeyboardInterrupt):
    """SIGTERM, which schedulers send: treated as Ctrl-C, so that what is under way is saved."""


def exit_code(stopped: KeyboardInterrupt) -> int:
    """Exit status as in a shell: 128 plus the number of the signal."""
    return SIGNALLED + (signal.SIGTERM if isinstance(stopped, Terminated) else signal.SIGINT)


def interruption(error: BaseException) -> KeyboardInterrupt | None:
    """The interrupt that an error is or comes from; None if it has nothing to do with one.

    Ctrl-C while a C library is imported becomes an `ImportError`, which not always names its cause.
    """
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, KeyboardInterrupt):
        cause = cause.__cause__ or cause.__context__
    lost = _STOPS[-1] if _STOPS and isinstance(error, ImportError) else None
    return cause or lost


def end_process(code: int) -> NoReturn:
    """Ends the process with an exit status.

    After a signal it ends at once: where JAX was compiling, a thread goes on with that, and would
    crash when Python takes down what it uses.
    """
    if code < SIGNALLED:
        sys.exit(code)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):  # a pipe that nobody reads any more
            stream.flush()
    os._exit(code)


def stop_when_terminated() -> None:
    """Makes SIGTERM raise `Terminated`, and notes Ctrl-C for `interruption`.

    Elsewhere than in the main thread it does nothing; an ignored Ctrl-C (`nohup`) stays ignored.
    """

    def stop(number: int, frame: object) -> None:
        del frame
        _STOPS.append(Terminated() if number == signal.SIGTERM else KeyboardInterrupt())
        raise _STOPS[-1]

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, stop)
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, stop)
        _send_lost_signals_again()


@functools.cache
def _send_lost_signals_again() -> None:
    """Handles signals, including Ctrl-C, that arrive during garbage collection.

    Callbacks run then in which exceptions are ignored; those of signals reach this hook.
    """
    before = sys.unraisablehook

    def hook(ignored: "sys.UnraisableHookArgs") -> None:
        if not issubclass(ignored.exc_type, KeyboardInterrupt):
            before(ignored)
            return
        number = signal.SIGTERM if issubclass(ignored.exc_type, Terminated) else signal.SIGINT
        later = threading.Timer(SIGNAL_AGAIN_SECONDS, _signal_main_thread, (number,))
        later.daemon = True
        later.start()

    sys.unraisablehook = hook


def _signal_main_thread(number: int) -> None:
    if hasattr(signal, "pthread_kill"):  # wakes the thread up where it waits
        signal.pthread_kill(threading.main_thread().ident or 0, number)
    else:
        signal.raise_signal(number)


def configure_logging(*, verbose: bool = False) -> None:
    """Sends log lines to stderr without decoration: own ones from INFO on, others from WARNING on.

    Args:
      verbose: All lines, those of other packages included.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):  # stderr writes names in any encoding as it is
        sys.stdout.reconfigure(errors="backslashreplace")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        logging.Formatter("%(levelname)s: %(message)s" if verbose else "%(message)s")
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.DEBUG if verbose else logging.WARNING)
    logging.getLogger("cellcount_jax").setLevel(logging.DEBUG if verbose else logging.INFO)
    # Orbax logs through absl, which has a level of its own; its warnings are about seconds that a
    # save took, and what goes wrong is raised.
    absl_logging.set_verbosity(absl_logging.DEBUG if verbose else absl_logging.ERROR)


def cache_programs() -> None:
    """Caches compiled programs in `CELLCOUNT_CACHE` or the user's cache folder.

    `JAX_COMPILATION_CACHE_DIR`, where it is set, takes precedence.
    """
    import jax

    if os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        return
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    root = os.environ.get("CELLCOUNT_CACHE") or Path(base) / "cellcount_jax"
    jax.config.update("jax_compilation_cache_dir", str(Path(root) / "programs"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", MIN_COMPILE_SECONDS)


@functools.cache
def use_huge_pages() -> bool:
    """Keeps freed memory in the process, in pages of 2 MiB, when JAX computes on a CPU under Linux.

    XLA allocates intermediate results at every run of a program and frees them afterwards. By
    default the system provides that memory anew each time, in pages of 4 KiB filled with zeros: a
    third of the time of a convolutional network. Call it before large allocations; the process then
    keeps its peak memory until it ends. Further calls change nothing.

    Returns:
      Whether it did; not on other systems and C libraries, not with other devices (all threads
      share one heap all the same), nor where the environment variable `CELLCOUNT_LARGE_PAGES` is 0.
    """
    import jax

    if (
        os.environ.get(HUGE_PAGES_VARIABLE) == "0"
        or platform.system() != "Linux"
        or platform.libc_ver()[0] != "glibc"
    ):
        return False
    libc = ctypes.CDLL(None)
    # One heap for all threads: set before JAX makes its threads, each of which would get its own.
    libc.mallopt(_M_ARENA_MAX, 1)
    if jax.default_backend() != "cpu":
        return False
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.restype, libc.free.argtypes = None, [ctypes.c_void_p]
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    # Large blocks come from the heap, too, and none of it is returned to the system.
    for option, value in ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, -1)):
        libc.mallopt(option, value)
    size = int(MEMORY_SHARE * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    # The heap grows by this; the new range is marked, and serves the allocations that follow.
    start = libc.malloc(size)
    if start is None:
        return False
    first = -(-start // _HUGE_PAGE) * _HUGE_PAGE
    length = (start + size - first) // _HUGE_PAGE * _HUGE_PAGE
    failed = libc.madvise(first, length, _MADV_HUGEPAGE)
    libc.free(start)
    return not failed
