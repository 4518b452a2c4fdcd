"""A check of the tiles of a Zeiss CZI, whose own library trusts what a file says of them.

Layout: Zeiss, "ZISRAW (CZI) file format", design specification: a file header names the position of
the directory, an entry of which (schema DV) stands in front of each tile, too.
"""

import math
import struct
from pathlib import Path
from typing import BinaryIO, NamedTuple

from cellcount_jax.io.bounded_file import BoundedFile
from cellcount_jax.io.images.base import ProblemError

_SEGMENT = struct.Struct("<16sqq")  # name, bytes allocated, bytes used
_ENTRY = struct.Struct("<2siqiiB5xi")  # schema, pixel type, position, part, compression, ...
_DIMENSION = struct.Struct("<4siifi")  # name, start, size, coordinate, stored size
_SIZES = struct.Struct("<iiq")  # bytes of the metadata, attachments and pixels of a tile

_DIRECTORY_AT = 84
_DIRECTORY_HEADER = 128
_MAX_DIMENSIONS = 40
_PLANES_PER_TILE = 1000
"""Most planes that may be declared for each tile; the library goes through all of them."""


class _Entry(NamedTuple):
    position: int
    part: int
    sides: tuple[tuple[int, int], ...]
    """Size and stored size along X and Y."""
    planes: dict[bytes, tuple[int, int]]
    """First and last position along the other axes."""


def check_tiles(path: Path) -> None:
    """Refuses tiles without a size and those that are not as the directory says.

    Zeiss's library would end the process, never end, or ask for all memory.

    Raises:
      ProblemError: The file is damaged.
    """
    with BoundedFile(path) as file:
        try:
            _check(file, path.stat().st_size)
        except (struct.error, ValueError, OverflowError):
            raise ProblemError("is damaged (its tiles); save or copy it again") from None


def _check(file: BinaryIO, size: int) -> None:
    file.seek(_DIRECTORY_AT)
    (position,) = struct.unpack("<q", file.read(8))
    file.seek(position)
    name, allocated, _ = _SEGMENT.unpack(file.read(_SEGMENT.size))
    if name.rstrip(b"\0") != b"ZISRAWDIRECTORY":
        raise ValueError("no directory")
    directory = file.read(allocated)
    (n,) = struct.unpack_from("<i", directory)
    at = _DIRECTORY_HEADER
    places: dict[bytes, set[int]] = {}
    for _ in range(n):
        entry, at = _read_entry(directory, at)
        for axis, ends in entry.planes.items():
            places.setdefault(axis, set()).update(ends)
        if entry.part == 0:  # others lie in other files
            _check_tile(file, entry, size)
    if math.prod(max(p) - min(p) + 1 for p in places.values()) > _PLANES_PER_TILE * n:
        raise ValueError("more planes than tiles could fill")


def _read_entry(data: bytes, at: int) -> tuple[_Entry, int]:
    """An entry of the directory, and where it ends."""
    schema, _, position, part, _, _, n = _ENTRY.unpack_from(data, at)
    at += _ENTRY.size
    if schema != b"DV" or not 2 <= n <= _MAX_DIMENSIONS:
        raise ValueError("not an entry")
    sides, planes = {}, {}
    for _ in range(n):
        name, start, size, _, stored = _DIMENSION.unpack_from(data, at)
        at += _DIMENSION.size
        if size < 1:
            raise ValueError("an empty tile")
        axis = name[:1]  # all that the library reads of it
        if axis in (b"X", b"Y"):
            sides[axis] = size, stored
        elif axis not in (b"M", b"S"):  # mosaic tiles and scenes are no planes
            planes[axis] = start, start + size - 1
    if len(sides) != 2 or min(stored for _, stored in sides.values()) < 1:
        raise ValueError("an empty tile")
    return _Entry(position, part, (sides[b"X"], sides[b"Y"]), planes), at


def _check_tile(file: BinaryIO, entry: _Entry, size: int) -> None:
    file.seek(entry.position)
    data = file.read(_SEGMENT.size + _SIZES.size + _ENTRY.size + _MAX_DIMENSIONS * _DIMENSION.size)
    name, _, _ = _SEGMENT.unpack_from(data)
    sizes = _SIZES.unpack_from(data, _SEGMENT.size)
    own, _ = _read_entry(data, _SEGMENT.size + _SIZES.size)
    fits = min(sizes) >= 0 and entry.position + sum(sizes) <= size
    if name.rstrip(b"\0") != b"ZISRAWSUBBLOCK" or own.sides != entry.sides or not fits:
        raise ValueError("not the tile of the entry")
