"""Counts files: a row per picture, its points beside it; one that fails does not stop the rest."""

import csv
import logging
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import cellcount_jax
from cellcount_jax.counting.counter import Count, Counter
from cellcount_jax.data.images import Picture, read_image

log = logging.getLogger(__name__)

COLUMNS = (
    *("image", "count", "n_points", "density_sum", "height", "width", "depth", "area_px"),
    *("spacing_z", "spacing_y", "spacing_x", "cells_per_mm2", "cells_per_mm3"),
    *("roi", "model", "version", "status"),
)

OnCounted = Callable[[str, Picture, Count], None]


def predict_files(
    counter: Counter,
    paths: Sequence[Path],
    out: Path,
    *,
    model: str,
    points_style: str = "plain",
    on_counted: OnCounted | None = None,
) -> int:
    """Counts pictures into `out/counts.csv` and `out/points/<name>.csv`.

    Args:
      counter: trained.
      paths: picture files.
      out: folder, made if missing; its `counts.csv` is written anew.
      model: name of the model for the table.
      points_style: `plain` (y, x, score) or `napari` (index, axis-0, axis-1, score).
      on_counted: called with name, picture and count of each, to draw overlays.

    Returns:
      Number of files that could not be counted.
    """
    out.mkdir(parents=True, exist_ok=True)
    failed = 0
    with (out / "counts.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, COLUMNS)
        table.writeheader()
        for path, name in zip(paths, output_names(paths), strict=True):
            row: dict[str, Any] = {"image": str(path), "model": model, "roi": ""}
            row["version"] = cellcount_jax.__version__
            try:
                picture = read_image(path)
                found = counter.count(picture.pixels, spacing=picture.spacing)
                row |= describe(picture, found) | {"status": "ok"}
                if found.points is not None and found.scores is not None:
                    target = out / "points" / f"{name}.csv"
                    write_points(target, found.points, found.scores, style=points_style)
                if on_counted is not None:
                    on_counted(name, picture, found)
            except (ValueError, OSError, MemoryError) as error:
                failed += 1
                line = " ".join(str(error).split()) or type(error).__name__
                line = line if str(path) in line else f"{path}: {line}"
                row["status"] = f"error: {line}"
                log.error("%s", line)
            table.writerow(row)
            file.flush()
    return failed


def output_names(paths: Sequence[Path]) -> list[str]:
    """A name for each file's outputs: its stem, longer where two files would share it."""
    choices: list[Callable[[Path], str]] = [
        lambda p: p.stem,
        lambda p: p.name,
        lambda p: "_".join(part for part in p.parts if part != p.anchor),
    ]
    names = [choices[0](p) for p in paths]
    for choice in choices[1:]:
        twice = {n for n in names if names.count(n) > 1}
        names = [choice(p) if n in twice else n for p, n in zip(paths, names, strict=True)]
    return names


def describe(picture: Picture, found: Count) -> dict[str, Any]:
    """Columns of one picture: count, sizes, density per area or volume where the scale is known."""
    space = picture.pixels.shape[:-1]
    spacing = picture.spacing or ()
    row: dict[str, Any] = {
        "count": round(found.count, 3),
        "n_points": "" if found.points is None else len(found.points),
        "density_sum": "" if found.density is None else round(float(found.density.sum()), 3),
        "height": space[-2],
        "width": space[-1],
        "depth": space[0] if len(space) == 3 else "",
        "area_px": int(np.prod(space[-2:])),
    }
    for axis, size in zip(("spacing_x", "spacing_y", "spacing_z"), spacing[::-1], strict=False):
        row[axis] = size
    if len(spacing) == len(space) == 2:
        row["cells_per_mm2"] = found.count / (np.prod(space) * np.prod(spacing) * 1e-6)
    if len(spacing) == len(space) == 3:
        row["cells_per_mm3"] = found.count / (np.prod(space) * np.prod(spacing) * 1e-9)
    return row


def write_points(path: Path, points: np.ndarray, scores: np.ndarray, *, style: str) -> None:
    """Writes points as `[z,]y,x,score` or as napari reads them."""
    ndim = points.shape[1]
    names: Iterable[str] = ("z", "y", "x")[3 - ndim :]
    if style == "napari":
        names = ["index", *(f"axis-{i}" for i in range(ndim))]
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow([*names, "score"])
        for i, (point, score) in enumerate(zip(points.tolist(), scores.tolist(), strict=True)):
            values = [f"{v:.3f}" for v in point] + [f"{score:.6g}"]
            table.writerow([i, *values] if style == "napari" else values)
