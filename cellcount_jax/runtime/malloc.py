"""Memory in pages of 2 MiB for computing on a CPU, on Linux.

XLA asks for the memory of a program's intermediate results at every run and gives it back after.
The C library takes so much from the system anew each time, in pages of 4 KiB that are first filled
with zeros: a third of the time of a network of convolutions. Here it is told to keep what it has,
in large pages.
"""

import ctypes
import functools
import os
import platform

import jax

VARIABLE = "CELLCOUNT_LARGE_PAGES"
"""Environment variable; 0 leaves the C library as it is."""

SHARE = 0.75
"""Part of the machine's memory that may be in large pages. Only what is used is taken."""

# From glibc's malloc.h and Linux's mman.h.
_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX, _MADV_HUGEPAGE = -1, -4, -8, 14
_PAGE = 2**21


@functools.cache
def use_large_pages() -> bool:
    """Keeps freed memory in the process, in large pages, when JAX computes on CPU under Linux.

    For the start of a program, before anything large is allocated: it changes how all of the
    process gets its memory, and what it held at most it holds to the end. A second call changes
    nothing.

    Returns:
      Whether it did; not on other systems and C libraries, with other devices (whose threads
      share one heap all the same), or where the environment variable `CELLCOUNT_LARGE_PAGES` is 0.
    """
    if (
        os.environ.get(VARIABLE) == "0"
        or platform.system() != "Linux"
        or platform.libc_ver()[0] != "glibc"
    ):
        return False
    libc = ctypes.CDLL(None)
    # All threads share one heap: before JAX makes its threads, each of which would get its own.
    libc.mallopt(_M_ARENA_MAX, 1)
    if jax.default_backend() != "cpu":
        return False
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.restype, libc.free.argtypes = None, [ctypes.c_void_p]
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    # What is large comes from the heap too, and nothing of it goes back.
    for option, value in ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, -1)):
        libc.mallopt(option, value)
    size = int(SHARE * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    # The heap grows by this, its new part is marked, and is there for whoever asks next.
    start = libc.malloc(size)
    if start is None:
        return False
    first = -(-start // _PAGE) * _PAGE
    failed = libc.madvise(first, (start + size - first) // _PAGE * _PAGE, _MADV_HUGEPAGE)
    libc.free(start)
    return not failed
