"""Maps the axes of a file to those of the package: space first, channels last."""

import dataclasses
import logging
import math
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from cellcount_jax.io.images.base import ImageReader, ProblemError, Slices, guess_axes

log = logging.getLogger(__name__)

COLOURS = ("red", "green", "blue")

Channels = int | str | Sequence[int | str]
"""Index or name of a channel, or several."""


@dataclasses.dataclass(frozen=True)
class Layout:
    """How the axes of an `ImageReader` become [*space, C].

    Attributes:
      shape: [*space, C] of the arranged image.
      space: Positions of the space axes among the reader's, (y, x) or (z, y, x).
      colour: Positions of the channel and sample axes, none to two.
      fixed: The one slice of each other axis, by its position.
      chosen: Channels to keep, as indices into the flattened colour axes; None for all.
      channel_names: Names of the kept channels, or empty.
      spacing: Micrometres per pixel of the space axes, if all are known.
      chunks: Sizes [*space, C] that the file stores together.
    """

    shape: tuple[int, ...]
    space: tuple[int, ...]
    colour: tuple[int, ...]
    fixed: Mapping[int, slice]
    chosen: tuple[int, ...] | None
    channel_names: tuple[str, ...]
    spacing: tuple[float, ...] | None
    chunks: tuple[int, ...]


def arrange(
    reader: ImageReader,
    *,
    axes: str | None = None,
    channels: Channels | None = None,
    index: Mapping[str, int] | None = None,
) -> Layout:
    """Decides what each axis of an image is.

    Args:
      reader: The open image.
      axes: Letters that replace the file's own; axes of length 1 may be left out.
      channels: Indices or names of the channels to keep, in that order.
      index: Position to take along other axes, such as {"T": 0}; along Z it picks one plane.

    Returns:
      The layout.

    Raises:
      ProblemError: The options do not fit the file, or the caller must choose.
    """
    if 0 in reader.shape:
        raise ProblemError(f"has no pixels (shape {reader.shape}); save it again")
    if reader.dtype.kind not in "buif" or reader.dtype.itemsize > 8:
        raise ProblemError(f"holds values of type {reader.dtype}; save integers or floats")
    letters = axis_letters(reader, axes, index or {})
    fixed = _fixed(reader, letters, index or {}, keep_z=axes is not None)
    space = tuple(letters.index(c) for c in "ZYX" if c in letters and letters.index(c) not in fixed)
    colour = tuple(i for i, c in enumerate(letters) if c in "CS" and i not in fixed)
    names = _names(reader, letters, colour)
    chosen = None if channels is None else _choose(channels, names, _size(reader, colour))
    spacing = tuple(reader.spacing.get(letters[i], 0.0) for i in space)
    count = _size(reader, colour) if chosen is None else len(chosen)
    chunks = reader.chunks or reader.shape
    return Layout(
        shape=(*(reader.shape[i] for i in space), count),
        space=space,
        colour=colour,
        fixed=fixed,
        chosen=chosen,
        channel_names=names if chosen is None or not names else tuple(names[c] for c in chosen),
        spacing=spacing if all(0 < s < math.inf for s in spacing) else None,
        chunks=(*(min(chunks[i], reader.shape[i]) for i in space), count),
    )


def read_part(reader: ImageReader, layout: Layout, slices: Slices) -> np.ndarray:
    """Values [*space, C] of a part; slices have start, stop and step for every axis."""
    wanted = dict(layout.fixed) | dict(zip(layout.space, slices[:-1], strict=True))
    for position in layout.colour:
        wanted[position] = slice(0, reader.shape[position], 1)
    kept = range(*slices[-1].indices(layout.shape[-1]))
    picked = [c if layout.chosen is None else layout.chosen[c] for c in kept]
    first = 0
    if len(layout.colour) == 1 and picked:
        first = min(picked)
        wanted[layout.colour[0]] = slice(first, max(picked) + 1, 1)
    part = reader.read(tuple(wanted[i] for i in range(len(reader.shape))))
    order = [*layout.fixed, *layout.space, *layout.colour]
    part = np.transpose(part, order)
    space = part.shape[len(layout.fixed) : len(layout.fixed) + len(layout.space)]
    part = part.reshape(*space, -1)
    if picked == list(range(first, first + part.shape[-1])):
        # Values that belong to a file, which may be closed next, are copied in any case.
        kind = part.dtype.newbyteorder("=")
        return np.array(part, kind, order="C", copy=True if reader.borrowed else None)
    return part[..., [c - first for c in picked]].astype(part.dtype.newbyteorder("="), order="C")


def axis_letters(reader: ImageReader, axes: str | None, index: Mapping[str, int]) -> str:
    """A letter per axis; unknown axes of length 1 get a dot."""
    if axes is not None:
        letters = _override(reader.shape, axes.upper())
    else:
        letters = _own_letters(reader, index)
    for letter in "YX":
        if letters.count(letter) != 1:
            raise ProblemError(
                f"axes {letters!r} of shape {reader.shape} must name {letter} once; pass axes"
            )
    missing = sorted(set(index) - set(letters))
    if missing:
        raise ProblemError(f"has no axis {missing[0]!r} to index; its axes are {letters!r}")
    return letters


def _override(shape: tuple[int, ...], axes: str) -> str:
    if len(set(axes)) != len(axes) or not axes.isalpha():
        raise ProblemError(f"axes={axes!r} must be different letters such as TZCYX")
    if len(axes) == len(shape):
        return axes
    if len(axes) == sum(n > 1 for n in shape):
        rest = iter(axes)
        return "".join(next(rest) if n > 1 else "." for n in shape)
    raise ProblemError(
        f"axes={axes!r} names {len(axes)} axes, the file has {len(shape)} (shape {shape})"
    )


def _own_letters(reader: ImageReader, index: Mapping[str, int]) -> str:
    """The file's own letters; one unnamed series of grey pages is a stack."""
    named = (reader.axes or guess_axes(reader.shape)).upper()
    letters = [
        c if n > 1 or c in "ZYXCST" else "." for c, n in zip(named, reader.shape, strict=True)
    ]
    unknown = [i for i, c in enumerate(letters) if c not in "ZYXCST." and c not in index]
    if len(unknown) == 1 and letters[unknown[0]] in "IQ":
        depth = letters.index("Z") if "Z" in letters else None
        is_grey = "S" not in letters or reader.shape[letters.index("S")] == 1
        if is_grey and (depth is None or reader.shape[depth] == 1):
            if depth is not None:
                letters[depth] = "."
            letters[unknown[0]] = "Z"
    return "".join(letters)


def _fixed(
    reader: ImageReader, letters: str, index: Mapping[str, int], *, keep_z: bool
) -> dict[int, slice]:
    fixed = {}
    for i, (letter, length) in enumerate(zip(letters, reader.shape, strict=True)):
        if letter in index and letter not in "YXCS":
            if not 0 <= index[letter] < length:
                raise ProblemError(
                    f"index {letter}={index[letter]} is outside its axis of length {length}"
                )
            fixed[i] = slice(index[letter], index[letter] + 1, 1)
        elif letter in index:
            raise ProblemError(f"index cannot pick along {letter}; use channels for channels")
        elif letter in "YXCS" or (letter == "Z" and (length > 1 or keep_z)):
            continue
        elif length == 1:
            fixed[i] = slice(0, 1, 1)
        elif letters.count(letter) > 1:
            raise ProblemError(
                f"does not say what its axes of shape {reader.shape} are; pass axes, such as "
                f'axes="{"TZCYX"[-len(letters) :]}"'
            )
        else:
            if letter == "T":
                raise ProblemError(
                    f"holds {length} time points (axes {letters!r}, shape {reader.shape}); choose "
                    'one with --time (index={"T": 0} in Python), or name the axes with --axes'
                )
            what = {"P": "positions"}.get(letter, f"steps along {letter!r}")
            raise ProblemError(
                f"holds {length} {what} (axes {letters!r}, shape {reader.shape}); choose one with "
                f'index={{"{letter}": 0}} or name the axes with axes (--axes)'
            )
    return fixed


def _size(reader: ImageReader, positions: Sequence[int]) -> int:
    return math.prod(reader.shape[i] for i in positions)


def _names(reader: ImageReader, letters: str, colour: Sequence[int]) -> tuple[str, ...]:
    count = _size(reader, colour)
    if len(reader.channel_names) == count:
        return tuple(reader.channel_names)
    if [letters[i] for i in colour if reader.shape[i] > 1] == ["S"] and count in (3, 4):
        return (*COLOURS, "alpha")[:count]
    return ()


def _choose(channels: Channels, names: tuple[str, ...], count: int) -> tuple[int, ...]:
    single = isinstance(channels, (int, str, np.integer))
    wanted = [channels] if single else list(channels)  # type: ignore[arg-type]
    if not wanted:
        raise ProblemError("channels is empty; name at least one")
    return tuple(_channel(c, names, count) for c in wanted)  # type: ignore[arg-type]


def _channel(channel: int | str, names: tuple[str, ...], count: int) -> int:
    if not isinstance(channel, str):
        if not 0 <= channel < count:
            raise ProblemError(f"has {count} channels, no channel {channel}; the first is 0")
        return int(channel)
    for same in (lambda name: name == channel, lambda name: name.lower() == channel.lower()):
        found = [i for i, name in enumerate(names) if same(name)]
        if len(found) == 1:
            if channel.isdecimal() and int(channel) < count and int(channel) != found[0]:
                log.warning(
                    "channel %s is taken by its name: it is number %d, counted from 0",
                    *(channel, found[0]),
                )
            return found[0]
    if channel.isdecimal() and int(channel) < count:
        return int(channel)
    known = ", ".join(names) or f"none; give a number from 0 to {count - 1}"
    raise ProblemError(f"has no single channel named {channel!r}; its names: {known}")


class WithSpacing(Protocol):
    """An image of a file, in memory or open."""

    @property
    def ndim(self) -> int:
        """Number of space axes."""
        ...

    @property
    def spacing(self) -> tuple[float, ...] | None:
        """Micrometres per pixel along each axis, if the file says."""
        ...


def chosen_spacing(image: WithSpacing, given: Sequence[float] | None) -> tuple[float, ...] | None:
    """Micrometres per pixel along each axis: what the user says, else what the file says.

    Args:
      image: Image of the file.
      given: Voxel size per axis, of which the last ones are used, or None.

    Raises:
      ValueError: Too few or impossible numbers are given.
    """
    if given is None:
        return image.spacing
    if len(given) < image.ndim:
        raise ValueError(
            f"a volume needs a voxel size of three numbers, z y x; {len(given)} were given"
        )
    if not all(0 < size < math.inf for size in given):
        raise ValueError(f"voxel size {given}: must be greater than 0, in micrometres")
    return tuple(float(size) for size in given[-image.ndim :])
