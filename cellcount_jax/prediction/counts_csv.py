"""`counts.csv`: rows survive a crash, are reused by a second call, and merge across shards."""

import csv
import io
import json
import logging
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cellcount_jax.runtime.path_text import path_text
from cellcount_jax.runtime.replace_file import aside, naming, write_file

log = logging.getLogger(__name__)

COLUMNS = (
    *("image", "count", "n_points", "density_sum", "height", "width", "depth", "area_px"),
    *("spacing_z", "spacing_y", "spacing_x", "cells_per_mm2", "cells_per_mm3"),
    *("diameter_px", "diameter_um"),
    *("scene", "time", "slice", "roi", "model", "version", "status", "remarks"),
)

ALWAYS = (
    *("image", "count", "n_points", "height", "width", "model", "version", "status", "remarks"),
)
"""Columns that a table has even if no row fills them."""

CsvRow = dict[str, Any]
"""A row by column. A region's counts come from `inference.region_counts.RegionRow`; comparisons
with true dots are records of `evaluation`."""


def table_name(shard: tuple[int, int] | None = None) -> str:
    """File name of a table, or of the i-th of n tables to be merged."""
    return "counts.csv" if shard is None else f"counts.shard-{shard[0]}-of-{shard[1]}.csv"


def read(path: Path) -> list[dict[str, str]]:
    """Complete rows of a table, as text; empty if there is no table.

    The last line of a run that was killed may be incomplete; then the rows of the last image are
    left out.
    """
    return _read(path)[0]


def _read(path: Path) -> tuple[list[dict[str, str]], bool]:
    """Complete rows of a table, and whether lines before its end are damaged."""
    if not path.exists():
        return [], False
    text = path.read_bytes().decode("utf-8", errors="replace")
    rows: list[dict[str, str]] = []
    damaged = False
    try:
        rows.extend(csv.DictReader(io.StringIO(text)))
    except csv.Error:  # such as a line break inside a field
        damaged = True
    torn = None if not rows or damaged or text.endswith("\n") else rows.pop()
    whole = [row for row in rows if None not in row and None not in row.values()]
    whole = [row for row in whole if set(ALWAYS) <= row.keys() and row["image"]]
    damaged |= len(whole) < len(rows)
    if torn is not None:
        name = torn.get("image") or ""
        last = whole[-1]["image"] if whole and whole[-1]["image"].startswith(name) else name
        whole = [row for row in whole if row["image"] != last]
    return [dict.fromkeys(COLUMNS, "") | row for row in whole], damaged


def write(path: Path, rows: Iterable[CsvRow], *, every_column: bool = True) -> None:
    """Replaces a table.

    Args:
      path: The table.
      rows: Its rows.
      every_column: False leaves out columns that no row fills, except `ALWAYS`.
    """
    rows = list(rows)
    filled = {name for row in rows for name, value in row.items() if value not in ("", None)}
    columns = [c for c in COLUMNS if every_column or c in ALWAYS or c in filled]
    write_file(path, ",".join(columns) + "\n" + _text(rows, columns))


def append(path: Path, rows: Iterable[CsvRow]) -> None:
    """Appends the rows of one image; they are on disk when this returns."""
    with naming(path), path.open("a", newline="", encoding="utf-8") as file:
        file.write(_text(rows))


def begin(path: Path, settings: dict[str, Any]) -> tuple[list[dict[str, str]], dict[str, str]]:
    """Rows of images counted by earlier calls with the same settings.

    A table made with other settings, or one that cannot be read, is renamed and kept.

    Args:
      path: The table, which need not exist.
      settings: What the rows depend on; kept in a JSON file beside the table (`remember`).

    Returns:
      The rows, and the name of each image's outputs by its path (as text).
    """
    rows, damaged = _read(path)
    known = _json(path.with_suffix(".json"))
    names = known.pop("outputs", {})
    if known.get("overlays") and not settings.get("overlays", True):
        known["overlays"] = False  # overlays that nobody asks for any more do no harm
    fits = settings == known if known else all(r["model"] == settings["model"] for r in rows)
    if not rows and path.exists() and path.read_bytes().strip().count(b"\n"):
        fits = False  # it has lines, but none is a row of counts
        rows = [{}]
    kept = aside(path)
    if rows and not fits:
        path.rename(kept)
        log.warning("%s was made with another model or other settings; kept as %s", path, kept.name)
        rows, names = [], {}
    elif damaged:
        shutil.copyfile(path, kept)
        log.warning("%s has damaged lines, left out; the original is kept as %s", path, kept.name)
    good = {row["image"] for row in rows} - {r["image"] for r in rows if r["status"] != "ok"}
    return [row for row in rows if row["image"] in good], dict(names)


def model_of(path: Path, images: Iterable[Path]) -> str | None:
    """The model, as it was named, that made a table's rows of some of the images.

    Returns:
      None if no image has a row.
    """
    counted = {row["image"]: row["model"] for row in read(path)}
    return next((m for image in images if (m := counted.get(path_text(image)))), None)


def remember(path: Path, settings: dict[str, Any], names: Mapping[str, str]) -> None:
    """Writes what the rows of a table depend on, and which image each output file belongs to.

    Args:
      path: The table.
      settings: Settings of the calls that made it.
      names: Name of each image's outputs, by its path (as text).
    """
    text = json.dumps({**settings, "outputs": dict(names)}, indent=2)
    write_file(path.with_suffix(".json"), text + "\n")


def merge(out: Path) -> tuple[Path, int, int]:
    """Merges the tables of all shards in a folder into `counts.csv`.

    Returns:
      The table, its number of images, and how many of them could not be counted.

    Raises:
      ValueError: There are no shards, one is missing, or they do not belong together.
    """
    shards = _shards(out)
    tables, settings = [], []
    names: dict[str, str] = {}
    for path in shards:
        rows, damaged = _read(path)
        if damaged:
            raise ValueError(f"{path}: has damaged lines; run predict --shard for it again")
        tables.append(_by_image(rows))
        settings.append(_json(path.with_suffix(".json")))
        names |= settings[-1].pop("outputs", {})
        if settings[-1] != settings[0]:
            raise ValueError(
                f"{path}: counted with another model or other settings than {shards[0].name}; "
                "count it again"
            )
    # Shard i holds every n-th image from the i-th on: interleaving restores the original order.
    longest = max(map(len, tables))
    images = [table[i] for i in range(longest) for table in tables if i < len(table)]
    target = out / table_name()
    write(target, [row for rows in images for row in rows], every_column=False)
    if settings[0]:
        remember(target, settings[0], names)
    failed = sum(any(row["status"] != "ok" for row in rows) for rows in images)
    return target, len(images), failed


def _shards(out: Path) -> Sequence[Path]:
    found = {}
    for path in sorted(out.glob("counts.shard-*-of-*.csv")):
        if numbers := re.fullmatch(r"counts\.shard-(\d+)-of-(\d+)\.csv", path.name):
            found[path] = (int(numbers[1]), int(numbers[2]))
    if not found:
        raise ValueError(f"{out}: no tables of shards; make them with predict --shard i/n")
    sizes = sorted({n for _, n in found.values()})
    if len(sizes) > 1:
        raise ValueError(
            f"{out}: holds shards of {' and of '.join(map(str, sizes))} parts; keep one set only"
        )
    missing = sorted(set(range(1, sizes[0] + 1)) - {i for i, _ in found.values()})
    if missing:
        names = ", ".join(f"{i}/{sizes[0]}" for i in missing)
        raise ValueError(f"{out}: shard {names} is missing; count it first")
    return sorted(found, key=lambda path: found[path])


def _by_image(rows: Iterable[dict[str, str]]) -> list[list[dict[str, str]]]:
    images: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        images.setdefault(row["image"], []).append(row)
    return list(images.values())


def _text(rows: Iterable[CsvRow], columns: Sequence[str] = COLUMNS) -> str:
    text = io.StringIO(newline="")
    csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n").writerows(rows)
    return text.getvalue()


def _json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, RecursionError):
        return {}
