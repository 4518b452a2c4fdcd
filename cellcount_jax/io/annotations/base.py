"""What all readers and writers of dots share: the dots, a file's content, options, errors."""

import codecs
import contextlib
import dataclasses
import json
import re
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any, Literal, NoReturn, TypeVar

import numpy as np

from cellcount_jax.io.images.registry import image_format
from cellcount_jax.runtime.error_text import one_line

T = TypeVar("T")

Kind = Literal["roi", "zip", "image", "xml", "json", "table"]

Outline = tuple[str, list[np.ndarray] | None]
"""Name of a region and its rings [M, 2] (y, x), integers at corners of pixels; None for points and
lines."""

_ALLOWED_OPTIONS = {
    "order": ("yx", "xy"),
    "origin": ("centre", "corner"),
    "dialect": ("fiji", "cellfinder"),
    "ndim": (2, 3),
}
_MASK_FORMATS = ("PNG", "JPEG", "TIFF", "NPY")
_CONTROL_CHARACTER = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")
MAX_COORDINATE = 1e9
"""No image is larger, in pixels or micrometres."""


@dataclasses.dataclass(frozen=True, eq=False)
class Dots:
    """Dots of one image or volume.

    Attributes:
      points: [N, ndim] float32, (y, x) or (z, y, x) in pixels, integer = centre of that pixel.
      scores: [N] float32, higher is more certain, or None.
      labels: N strings (class or type of each cell), or None.

    Raises:
      ValueError: Shapes do not fit together, or a coordinate or score is not finite.
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

    @property
    def label_list(self) -> list[str]:
        """A label per dot, empty where there are none."""
        return [""] * len(self) if self.labels is None else list(self.labels)


@dataclasses.dataclass(frozen=True)
class Options:
    """What a file does not state itself; `io.annotations.dots.read_dots` explains each.

    Raises:
      ValueError: A value that is not allowed, or two that contradict each other.
    """

    image_shape: Sequence[int] | None = None
    ndim: int | None = None
    order: str | None = None
    origin: str | None = None
    spacing: float | Sequence[float] | None = None
    pixel_size: Sequence[float] | None = None
    dialect: str | None = None
    image_name: str | None = None
    target: str = ""  # name of the file to write

    def __post_init__(self) -> None:
        for name, allowed in _ALLOWED_OPTIONS.items():
            value = getattr(self, name)
            if value is not None and value not in allowed:
                raise ValueError(f"{name} must be one of {allowed}, got {value!r}")
        if self.image_shape is None:
            return
        shape = tuple(int(side) for side in self.image_shape)
        if len(shape) not in (2, 3) or min(shape) < 1:
            raise ValueError(f"image_shape must be (H, W) or (D, H, W), got {shape}")
        if self.ndim not in (None, len(shape)):
            raise ValueError(f"ndim={self.ndim} but image_shape={shape}")
        object.__setattr__(self, "image_shape", shape)
        object.__setattr__(self, "ndim", len(shape))


@dataclasses.dataclass(frozen=True)
class RawDots:
    """Dots in the convention and unit of their file.

    Attributes:
      points: [N, 2] (y, x) or [N, 3] (z, y, x) float64.
      numbers: Number of each dot's line or item in the file, from 1.
      item: Name of what `numbers` counts.
      scores: As in `Dots`.
      labels: As in `Dots`.
      corner: Integers are corners of pixels, so that the first pixel's centre is 0.5; one flag
        for all dots or one per dot.
      unit: Unit of the coordinates: pixels, micrometres, or the unit of the image's calibration, if
        any.
      planar: Z is the number of a plane that the format writes for flat images, too.
      ordered: The option `order` has been used.
      image_shape: Size of the image as the file states it, without channels.
    """

    points: np.ndarray
    numbers: Sequence[int]
    item: str = "line"
    scores: np.ndarray | None = None
    labels: Sequence[str] | None = None
    corner: bool | np.ndarray = False
    unit: Literal["px", "um", "calibrated"] = "px"
    planar: bool = False
    ordered: bool = False
    image_shape: tuple[int, ...] | None = None


class AnnotationFile:
    """A file's path and bytes; what is parsed from them is parsed once."""

    def __init__(self, path: str, data: bytes) -> None:
        self.path = path
        self.data = data
        self._parsed: dict[Hashable, Any] = {}

    def once(self, parse: Callable[["AnnotationFile"], T]) -> T:
        """Result of `parse(self)`, remembered."""
        if parse not in self._parsed:
            self._parsed[parse] = parse(self)
        return self._parsed[parse]

    def fail(self, text: str, number: int | None = None, item: str = "line") -> NoReturn:
        """Raises a one-line ValueError with the path and, if known, the place in the file."""
        where = self.path if number is None else f"{self.path}, {item} {number}"
        raise ValueError(f"{where}: {text}")

    @cached_property
    def text(self) -> str:
        """Text in UTF-8, UTF-16 with a byte-order mark, or else Windows-1252; lines end in LF."""
        is_utf16 = self.data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        for encoding in ["utf-16"] if is_utf16 else ["utf-8-sig", "cp1252", "latin-1"]:
            with contextlib.suppress(UnicodeDecodeError):
                text = self.data.decode(encoding)
                break
        else:
            self.fail("is not readable as text (UTF-16). Save it as UTF-8")
        found = _CONTROL_CHARACTER.search(text)
        if found:
            line = text.count("\n", 0, found.start()) + 1
            self.fail("is neither text nor a known binary format of dots", line)
        return text.replace("\r\n", "\n").replace("\r", "\n")

    @cached_property
    def kind(self) -> Kind:
        """What the file holds, from its first bytes; text is XML, JSON or else a table."""
        if self.data.startswith(b"Iout"):
            return "roi"
        if self.data.startswith((b"PK\x03\x04", b"PK\x05\x06")):
            return "zip"
        if image_format(self.data[:16]) in _MASK_FORMATS:
            return "image"
        start = self.text.lstrip()[:1]
        if start == "<":
            return "xml"
        return "json" if start in ("{", "[") else "table"

    @cached_property
    def json(self) -> Any:
        """JSON value; NaN and Infinity, which JSON does not have, are errors."""

        def constant(word: str) -> NoReturn:
            raise ValueError(f"{word} is not a coordinate")

        try:
            return json.loads(self.text, parse_constant=constant)
        except json.JSONDecodeError as error:
            self.fail(f"broken JSON ({error.msg})", error.lineno)
        except RecursionError:
            self.fail("broken JSON (nested too deeply)")
        except ValueError as error:
            self.fail(f"broken JSON ({short_line(error)})")

    def items(self, values: Iterable[Any], name: str) -> "Iterator[Item]":
        """The values as numbered JSON objects."""
        for number, value in enumerate(values, 1):
            item = Item(self, name, number, value)
            if not isinstance(value, dict):
                item.fail("is not an object")
            yield item

    @property
    def json_object(self) -> dict[str, Any]:
        """JSON value of a file that holds an object, else an empty one."""
        value = self.json if self.kind == "json" else None
        return value if isinstance(value, dict) else {}


def short_line(error: BaseException) -> str:
    """Message of another library's error, on one line and not too long."""
    text = one_line(error)
    return text if len(text) <= 200 else text[:197] + "..."


def quoted(value: object) -> str:
    """A value out of a file for a message: printable, short, on one line."""
    text = ascii(value)
    return text if len(text) <= 60 else text[:57] + "..."


@dataclasses.dataclass(frozen=True)
class Item:
    """A numbered item of a file, such as a feature or a region.

    Attributes:
      file: File that holds it.
      name: Name of such an item.
      number: Number of the item in the file, from 1.
      value: JSON object, or the bytes of a region.
    """

    file: AnnotationFile
    name: str
    number: int
    value: Any

    def fail(self, text: str) -> NoReturn:
        """Raises a one-line ValueError with the path and the place in the file."""
        self.file.fail(text, self.number, self.name)


def check_rings(item: Item, rings: Sequence[np.ndarray]) -> None:
    """Raises ValueError if a coordinate of an outline is not finite or beyond any image."""
    if not all((np.abs(ring) < MAX_COORDINATE).all() for ring in rings):
        item.fail("has an outline with a coordinate that is not a number, or beyond any image")
