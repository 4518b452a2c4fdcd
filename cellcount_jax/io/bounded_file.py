"""A file for libraries that read as many bytes as a header declares."""

import io
import os
from pathlib import Path


class BoundedFile(io.BufferedReader):
    """A file opened for reading that makes room for no more bytes than it holds.

    Python makes room for all bytes that are asked for before it reads, so that a damaged length of
    a few bytes would take the memory of the machine.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path))
        self._size = os.fstat(self.fileno()).st_size

    def read(self, size: int | None = -1, /) -> bytes:
        """At most `size` bytes, all that are left if it is None or negative."""
        left = max(0, self._size - self.tell())
        return super().read(left if size is None or size < 0 else min(size, left))
