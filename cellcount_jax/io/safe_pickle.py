"""Reads pickles without running the code that they name.

A pickle may call anything that it can import. Here it imports nothing: names in an allow-list are
replaced by functions of the reader, every other name is an error or an inert `Record`.
"""

import dataclasses
import pickle
import struct
from collections.abc import Callable, Mapping
from typing import IO, Any, ClassVar

_MAX_ARGUMENTS = 16
"""More than any allowed function takes; a call of three bytes must not copy a long tuple."""


@dataclasses.dataclass(eq=False)
class Record:
    """A name that was not imported, the arguments it would be called with, and its state."""

    name: str
    arguments: tuple[Any, ...] = ()
    state: Any = None

    def __call__(self, *arguments: Any) -> "Record":
        return Record(self.name, arguments)


def load(
    file: IO[bytes],
    *,
    size: int,
    allowed: Mapping[tuple[str, str], Any],
    keep_records: bool = False,
    persistent_load: Callable[[Any], Any] | None = None,
) -> Any:
    """Object of the pickle that starts at a file's position; the position moves to its end.

    Args:
      file: Open for reading.
      size: Bytes that the file still holds, the most that is read or allocated at once.
      allowed: (module, name) -> its replacement.
      keep_records: Other names become `Record`s; without it they are errors.
      persistent_load: Persistent id -> its replacement, if the format has such ids.

    Raises:
      pickle.UnpicklingError: The pickle is damaged, or asks for a name that is not allowed.
    """
    unpickler = _Unpickler(_BoundedFile(file, size), encoding="utf-8")
    unpickler.allowed, unpickler.keep_records = allowed, keep_records
    if persistent_load is not None:
        unpickler.persistent_load = persistent_load
    try:
        return unpickler.load()
    except pickle.UnpicklingError:
        raise
    except Exception as error:  # damage can raise anything
        raise pickle.UnpicklingError(f"damaged pickle ({type(error).__name__} {error})") from error


class _BoundedFile:
    """Refuses to read more than there is, before memory for it is allocated."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file, self._left = file, size

    def read(self, count: int) -> bytes:
        if count > self._left:
            raise EOFError("it is cut short")
        self._left -= count
        return self._file.read(count)

    def readline(self) -> bytes:
        line = self._file.readline()
        self._left -= len(line)
        return line


# The version in Python: the one in C allocates memory up to any index of a memo instruction.
_PythonUnpickler: Any = pickle._Unpickler


class _Unpickler(_PythonUnpickler):
    allowed: Mapping[tuple[str, str], Any]
    keep_records: bool
    dispatch: ClassVar = dict(_PythonUnpickler.dispatch)

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in self.allowed:
            return self.allowed[module, name]
        if self.keep_records:
            return Record(f"{module}.{name}")
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is not allowed")

    def load_call(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if len(arguments) > _MAX_ARGUMENTS:
            raise pickle.UnpicklingError(f"it passes {len(arguments)} arguments to a function")
        self.append(function(*arguments))

    def load_build(self) -> None:
        # Never through __setstate__, __dict__ or setattr, which would reach allowed functions.
        state = self.stack.pop()
        if isinstance(self.stack[-1], Record):
            self.stack[-1].state = state

    def load_bytearray8(self) -> None:
        # Read before it is allocated, unlike in the base class.
        (count,) = struct.unpack("<Q", self.read(8))
        self.append(bytearray(self.read(count)))

    dispatch[pickle.REDUCE[0]] = dispatch[pickle.NEWOBJ[0]] = load_call
    dispatch[pickle.BUILD[0]] = load_build
    dispatch[pickle.BYTEARRAY8[0]] = load_bytearray8
