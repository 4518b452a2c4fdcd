"""What every reader and writer of dots shares: the dots, a file's content, options, errors."""

import dataclasses
from collections.abc import Callable, Hashable, Sequence
from pathlib import PurePath
from typing import Any, NoReturn, TypeVar

import numpy as np

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, eq=False)
class Dots:
    """Dots of one image or volume.

    Attributes:
      points: [N, ndim] float32, (y, x) or (z, y, x) in pixels, integer = centre of that pixel.
      scores: [N] float32, higher is surer, or None.
      labels: N strings (class or type of each cell), or None.

    Raises:
      ValueError: shapes do not fit together, or a coordinate or score is not finite.
    """

    points: np.ndarray
    scores: np.ndarray | None = None
    labels: Sequence[str] | None = None

    def __post_init__(self) -> None:
        points = np.asarray(self.points, np.float32)
        if points.ndim != 2 or points.shape[1] not in (2, 3):
            raise ValueError(f"points must be [N, 2] or [N, 3], got shape {points.shape}")
        if not np.isfinite(points).all():
            raise ValueError("points hold a coordinate that is not finite")
        object.__setattr__(self, "points", points)
        if self.scores is not None:
            scores = np.asarray(self.scores, np.float32)
            if scores.shape != (len(points),) or not np.isfinite(scores).all():
                raise ValueError(
                    f"scores must be {len(points)} finite numbers, one per dot, "
                    f"got shape {scores.shape}"
                )
            object.__setattr__(self, "scores", scores)
        if self.labels is not None:
            labels = [str(label) for label in self.labels]
            if len(labels) != len(points):
                raise ValueError(f"{len(labels)} labels for {len(points)} dots")
            object.__setattr__(self, "labels", labels)

    def __len__(self) -> int:
        return len(self.points)


@dataclasses.dataclass(frozen=True)
class Options:
    """Choices that a file cannot make itself; `io.annotations.dots.read_dots` explains each."""

    image_shape: tuple[int, ...] | None = None
    ndim: int | None = None
    order: str | None = None
    origin: str | None = None
    spacing: float | Sequence[float] | None = None
    dialect: str | None = None
    image_name: str | None = None
    target: str = ""  # name of the file to write


@dataclasses.dataclass(frozen=True)
class Found:
    """What a reader found, in the file's own convention and unit.

    Attributes:
      points: [N, 2] (y, x) or [N, 3] (z, y, x) float64.
      places: number of each dot's line or item in the file, counted from 1.
      place: what `places` counts.
      scores, labels: as in `Dots`.
      corner: integers are corners of pixels, so that the first pixel's centre is 0.5; one truth
        for all dots or one per dot.
      planar: z is the number of a plane that the format writes for flat images too.
      ordered: the option `order` has been used.
      image_shape: size of the image as the file states it, without channels.
    """

    points: np.ndarray
    places: Sequence[int]
    place: str = "line"
    scores: np.ndarray | None = None
    labels: Sequence[str] | None = None
    corner: bool | np.ndarray = False
    planar: bool = False
    ordered: bool = False
    image_shape: tuple[int, ...] | None = None


class Source:
    """A file's name and bytes; whatever is parsed from them is parsed once."""

    def __init__(self, name: str, data: bytes) -> None:
        self.name = name
        self.data = data
        self._parsed: dict[Hashable, Any] = {}

    def once(self, parse: Callable[["Source"], T]) -> T:
        """Result of `parse(self)`, remembered."""
        if parse not in self._parsed:
            self._parsed[parse] = parse(self)
        return self._parsed[parse]

    def fail(self, text: str, number: int | None = None, place: str = "line") -> NoReturn:
        """Raises a ValueError of one line that names the file and, if known, the place in it."""
        where = self.name if number is None else f"{self.name}, {place} {number}"
        raise ValueError(f"{where}: {text}")


def one_line(error: BaseException) -> str:
    """Message of another library's error, on one line and not too long."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else text[:197] + "..."


def quoted(value: object) -> str:
    """A value out of a file for a message: printable, short, on one line."""
    text = ascii(value)
    return text if len(text) <= 60 else text[:57] + "..."


def is_number(value: object) -> bool:
    """True for a finite JSON number, not so large that sums of products would overflow."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e15


def stated_shape(height: object, width: object) -> tuple[int, int] | None:
    """(H, W) as a file states it, None where it does not."""
    return (height, width) if isinstance(height, int) and isinstance(width, int) else None


def pick_image(source: Source, names: Sequence[str], wanted: str | None) -> str:
    """The one of several image names in a file that is asked for.

    A name fits when it is equal, else when its last part is, else when that is without its ending.
    """
    shown = ", ".join(quoted(name) for name in list(names)[:5]) + (" ..." if len(names) > 5 else "")
    if wanted is None:
        if len(names) == 1:
            return names[0]
        source.fail(f"holds dots of {len(names)} images ({shown}). Pass image_name=")
    for same in (str, _last_part, lambda name: PurePath(_last_part(name)).stem):
        fitting = [name for name in names if same(name) == same(wanted)]
        if len(fitting) == 1:
            return fitting[0]
        if fitting:
            source.fail(f"several images fit image_name={quoted(wanted)}: {shown}")
    source.fail(f"holds no image {quoted(wanted)}, but {shown}. Pass another image_name=")


def _last_part(name: str) -> str:
    return name.replace("\\", "/").rsplit("/", 1)[-1]
