"""Recently used arrays, kept in memory up to a number of bytes."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable

import numpy as np


class ArrayCache:
    """Least-recently-used cache of arrays; threads may share it.

    Args:
      max_bytes: Size of the arrays that are kept; the last one is kept at any size.
    """

    def __init__(self, max_bytes: int = 256 * 2**20):
        self._max_bytes, self._bytes = max_bytes, 0
        self._arrays: OrderedDict[Hashable, np.ndarray] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], np.ndarray]) -> np.ndarray:
        """The array of that key, made if it is not in the cache."""
        with self._lock:
            if key in self._arrays:
                self._arrays.move_to_end(key)
                return self._arrays[key]
        array = make()
        with self._lock:
            if key not in self._arrays:
                self._arrays[key] = array
                self._bytes += array.nbytes
            while self._bytes > self._max_bytes and len(self._arrays) > 1:
                self._bytes -= self._arrays.popitem(last=False)[1].nbytes
        return array
