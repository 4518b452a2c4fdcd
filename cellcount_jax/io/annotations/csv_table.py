"""Text tables: delimiter, header, columns of numbers, and the line of every row."""

import contextlib
import csv
import dataclasses
import io
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from cellcount_jax.io.annotations import base

_DELIMITERS = ("\t", ";", ",", " ")
_DELIMITER_NAMES = {"\t": "tab", ";": "semicolon", ",": "comma", " ": "space"}
_NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d+)?")
_DIGITS = frozenset("0123456789+-.eE ")
# Names of coordinates; a delimiter under which two cells are such names is the right one.
_AXIS = re.compile(r"axis-\d|centroid-\d|x|y|location_center_[xy]|centroid [xy] .*")


@dataclasses.dataclass(frozen=True)
class Table:
    """A parsed table.

    Attributes:
      file: The file, for messages.
      header: Column names in lower case, empty if the first line holds numbers.
      columns: The cells of each column, as text.
      lines: Line number of each row, from 1.
      delimiter: One of tab, semicolon, comma, space.
      trailing: The header ends in a delimiter, as QuPath writes it.
    """

    file: base.AnnotationFile
    header: tuple[str, ...]
    columns: tuple[Sequence[str], ...]
    lines: Sequence[int]
    delimiter: str
    trailing: bool

    @property
    def delimiter_name(self) -> str:
        """Word for the delimiter, for messages."""
        return _DELIMITER_NAMES[self.delimiter]

    def find(self, *names: str) -> int | None:
        """Index of the first of these columns that there is."""
        return next((self.header.index(name) for name in names if name in self.header), None)

    def numbers(self, column: int, *, blank: float | None = None) -> np.ndarray:
        """One column as [N] float64, finite.

        A decimal comma is read as such where commas do not delimit cells.

        Args:
          column: Index of the column.
          blank: Value of an empty cell; None makes it an error.
        """
        name = (self.header[column] if self.header else "") or f"column {column + 1}"
        cells = self._decimal_points(self.columns[column], name)
        if blank is not None:
            cells = [cell if cell.strip() else repr(blank) for cell in cells]
        if set("".join(cells)) <= _DIGITS:
            with contextlib.suppress(ValueError):
                values = np.array(cells, dtype=np.str_).astype(np.float64)
                if np.isfinite(values).all():
                    return values
        for cell, line in zip(cells, self.lines, strict=True):
            if not _NUMBER.fullmatch(cell.strip()) or "," in cell or not np.isfinite(float(cell)):
                text = f"{name} is {base.quoted(cell.strip())}, not a finite number"
                self.file.fail(text, line)
        return np.array([float(cell) for cell in cells], np.float64)

    def _decimal_points(self, cells: Sequence[str], name: str) -> Sequence[str]:
        joined = "\n".join(cells)
        if self.delimiter == "," or "," not in joined:
            return cells
        for cell, line in zip(cells, self.lines, strict=True):
            if cell.count(",") > 1 or ("," in cell and "." in cell):
                self.file.fail(
                    f"{name} is {base.quoted(cell)}: with both comma and point, or two commas, "
                    "it is not clear which is decimal",
                    line,
                )
        return joined.replace(",", ".").split("\n")


def parse(file: base.AnnotationFile) -> Table:
    """Table of a text file; every row must have as many cells as the first."""
    lines = file.text.split("\n")
    first, declared = _first_line(file, lines)
    start = lines[first].lstrip("# ") if lines[first].startswith("#") else lines[first]
    delimiter = declared or _delimiter(file, start, first + 1)
    head = _cells(file, start, delimiter, first + 1)
    trailing = len(head) > 1 and not head[-1].strip()
    has_header = not all(_NUMBER.fullmatch(cell.strip()) for cell in head if cell.strip())
    if trailing:
        head = head[:-1]
    rows, numbers = _rows(file, lines, first + has_header, delimiter, len(head))
    header = tuple(cell.strip().strip('"').lower() for cell in head) if has_header else ()
    twice = {name for name in header if header.count(name) > 1 and _AXIS.fullmatch(name)}
    if twice:
        file.fail(f"two columns are called {base.quoted(min(twice))}", first + 1)
    columns = tuple(zip(*rows, strict=True)) if rows else ((),) * len(head)
    return Table(file, header, columns, numbers, delimiter, trailing)


def read_rows(path: Path, *columns: str) -> list[tuple[int, dict[str, str]]]:
    """Rows of a table that has these columns, as Excel or this package write it.

    Args:
      path: Path of the file.
      columns: Names that its header must have, in lower case.

    Returns:
      Line number and cells by name (without spaces around them) of each row.

    Raises:
      ValueError: No such table; one line that names the file.
    """
    file = base.AnnotationFile(str(path), path.read_bytes())
    table = parse(file)
    if not set(columns) <= set(table.header):
        file.fail(f"the columns must be named {' and '.join(columns)}")
    rows = zip(*table.columns, strict=True)
    return [
        (line, {name: cell.strip() for name, cell in zip(table.header, row, strict=True)})
        for line, row in zip(table.lines, rows, strict=True)
    ]


def dump(header: Sequence[str], columns: Sequence[Iterable[str]], delimiter: str = ",") -> bytes:
    """Bytes of a table in UTF-8."""
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(zip(*columns, strict=True))
    return out.getvalue().encode()


def shortest(values: np.ndarray) -> list[str]:
    """Shortest decimal texts that give the same floats back."""
    return np.asarray(values).astype(np.str_).tolist()


def _first_line(file: base.AnnotationFile, lines: list[str]) -> tuple[int, str | None]:
    """Index of the header or first row, and the delimiter if an Excel `sep=` line states it."""
    declared = None
    for i, line in enumerate(lines):
        words = line.strip().lower()
        if len(words) == 5 and words.startswith("sep=") and words[4] in _DELIMITERS:
            declared = words[4]
        elif words.startswith("#") and re.search("[a-z]", words):
            # A comment, unless it names columns: numpy.savetxt marks its header line so.
            if {"x", "y"} <= set(re.split(r"[;,\s]+", words.lstrip("# "))):
                return i, declared
        elif words:
            return i, declared
    file.fail("is empty: not even a header line")


def _delimiter(file: base.AnnotationFile, line: str, number: int) -> str:
    for delimiter in _DELIMITERS:
        try:
            cells = [cell.strip() for cell in _cells(file, line, delimiter, number)]
        except ValueError:  # quoted for another delimiter
            continue
        if sum(bool(_AXIS.fullmatch(cell.lower())) for cell in cells) >= 2:
            return delimiter
        filled = cells[:-1] if cells and not cells[-1] else cells
        if len(filled) >= 2 and all(_NUMBER.fullmatch(cell) for cell in filled):
            return delimiter
    # No coordinates: the most frequent one serves the message about the columns.
    return max(_DELIMITERS[:3], key=line.count)


def _cells(file: base.AnnotationFile, line: str, delimiter: str, number: int) -> list[str]:
    if delimiter == " ":
        return line.split()
    try:
        return next(csv.reader([line], delimiter=delimiter, strict=True))
    except csv.Error as error:
        file.fail(f"broken quotes ({base.short_line(error)})", number)


def _rows(
    file: base.AnnotationFile, lines: list[str], start: int, delimiter: str, width: int
) -> tuple[list[list[str]], list[int]]:
    kept = [i for i in range(start, len(lines)) if lines[i].strip()]
    chosen = [lines[i] for i in kept]
    if delimiter == " ":
        rows = [line.split() for line in chosen]
    else:
        reader = csv.reader(chosen, delimiter=delimiter, strict=True)
        try:
            rows = list(reader)
        except csv.Error as error:
            number = kept[min(reader.line_num, len(kept)) - 1] + 1
            file.fail(f"broken quotes ({base.short_line(error)})", number)
    if len(rows) != len(kept):
        file.fail("a quotation mark opens a cell that ends on another line")
    # Excel writes delimiters alone for rows whose cells were cleared.
    filled = [j for j, row in enumerate(rows) if any(cell.strip() for cell in row)]
    rows, kept = [rows[j] for j in filled], [kept[j] for j in filled]
    for j, row in enumerate(rows):
        # Some writers end each row, some only the header, with a delimiter.
        if len(row) == width + 1 and not row[-1].strip():
            row.pop()
        if len(row) != width:
            file.fail(f"{len(row)} cells where the first line has {width}", kept[j] + 1)
    return rows, [i + 1 for i in kept]
