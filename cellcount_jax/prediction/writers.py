"""Writes the files beside the table: points in the formats of other tools, density maps."""

import collections
import csv
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from cellcount_jax.inference.readout import TakeDensity
from cellcount_jax.io.annotations.dots import Dots, write_dots
from cellcount_jax.io.write_ome import create_ome_zarr, write_ome_tiff
from cellcount_jax.prediction.options import POINTS_STYLES
from cellcount_jax.runtime.path_text import path_text
from cellcount_jax.runtime.replace_file import replacing

MAX_NAME_BYTES = 200
"""File systems allow 255, and outputs add extensions such as `_contribution.tif`."""

ROWS_AT_ONCE = 1 << 16
"""Number of points that are formatted together."""

CHUNKS = {2: (1024, 1024), 3: (64, 256, 256)}
"""Chunk shape of a density in OME-Zarr, by number of axes."""


def output_names(paths: Sequence[Path], *, used: Mapping[str, str] | None = None) -> list[str]:
    """A name for each file's outputs: its stem, extended where two files would share it.

    Args:
      paths: Paths of the images.
      used: Names given by earlier calls, by image path (as text). An image keeps its name, and no
        other image gets it.
    """
    used = used or {}
    choices: list[Callable[[Path], str]] = [
        lambda p: _bounded(p.stem),
        lambda p: _bounded(p.name),
        lambda p: _bounded("_".join(part for part in p.parts if part != p.anchor)),
    ]
    here = {path_text(p) for p in paths}
    elsewhere = [name for image, name in used.items() if image not in here]
    names = [choices[0](p) for p in paths]
    for choice in choices[1:]:
        # Some file systems ignore case.
        number = collections.Counter(n.casefold() for n in (*names, *elsewhere))
        names = [
            choice(p) if number[n.casefold()] > 1 else n for p, n in zip(paths, names, strict=True)
        ]
    names = [used.get(path_text(p), name) for p, name in zip(paths, names, strict=True)]
    taken = {name.casefold() for name in elsewhere}
    for i, name in enumerate(names):
        again = 1
        while names[i].casefold() in taken:
            again += 1
            names[i] = f"{name}-{again}"
        taken.add(names[i].casefold())
    return names


def _bounded(name: str) -> str:
    """A name short enough to append an extension: the end of a long one becomes a checksum."""
    data = os.fsencode(name)
    if len(data) <= MAX_NAME_BYTES:
        return name
    start = data[: MAX_NAME_BYTES - 9].decode("utf-8", "ignore")
    return f"{start}-{zlib.crc32(data):08x}"


def points_path(out: Path, name: str, style: str) -> Path:
    """Path of the file with an image's points."""
    return out / "points" / f"{name}{POINTS_STYLES[style][0]}"


def write_points(
    path: Path,
    points: np.ndarray,
    scores: np.ndarray,
    *,
    style: str,
    spacing: Sequence[float] | None = None,
    image_name: str | None = None,
) -> None:
    """Writes the points of an image.

    Args:
      path: The file; its folder is created.
      points: Positions [N, ndim] in pixels.
      scores: Scores [N].
      style: A style from `POINTS_STYLES`. `plain` has columns `[z,]y,x,score` and, with a spacing,
        the same in micrometres.
      spacing: Micrometres per pixel.
      image_name: Name of the image, for formats that store it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    format = POINTS_STYLES[style][1]
    if style not in ("plain", "napari"):
        dots = Dots(points, scores if style == "qupath" else None)
        write_dots(path, dots, format=format, image_name=image_name)
        return
    ndim = points.shape[1]
    names: Iterable[str] = ("z", "y", "x")[3 - ndim :]
    header = [*names, "score"]
    known = None
    if style == "napari":
        header = ["index", *(f"axis-{i}" for i in range(ndim)), "score"]
    elif spacing is not None and len(spacing) == ndim:
        header += [f"{n}_um" for n in names]
        known = spacing
    with replacing(path, newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(header)
        # In blocks: Python objects take ten times the memory of arrays.
        for at in range(0, len(points), ROWS_AT_ONCE):
            rows = _rows(points[at : at + ROWS_AT_ONCE], scores[at : at + ROWS_AT_ONCE], known)
            table.writerows(
                [i, *row] if style == "napari" else row for i, row in enumerate(rows, at)
            )


def _rows(
    points: np.ndarray, scores: np.ndarray, spacing: Sequence[float] | None
) -> Iterator[list[str]]:
    """Table cells: pixels, score, and micrometres if the spacing is known."""
    # Measured from the centre of the first pixel, like the pixel coordinates.
    physical = [] if spacing is None else (points.astype(np.float64) * np.asarray(spacing)).tolist()
    for i, (point, score) in enumerate(zip(points.tolist(), scores.tolist(), strict=True)):
        values = [f"{v:.3f}" for v in point] + [f"{score:.6g}"]
        yield values + [f"{v:.4f}" for v in (physical[i] if physical else ())]


def write_density(path: Path, density: np.ndarray, spacing: Sequence[float] | None) -> None:
    """Writes a density [*space] as OME-TIFF, float32, cells per position.

    Args:
      path: The file; its folder is created.
      density: Density of the whole image.
      spacing: Micrometres per position of the map.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    axes = "zyx"[3 - density.ndim :]
    write_ome_tiff(path, np.asarray(density, np.float32), axes=axes, spacing=spacing)


def open_density_zarr(
    path: Path, shape: tuple[int, ...], spacing: Sequence[float] | None
) -> TakeDensity:
    """Creates an OME-Zarr 0.5 group for a density, float32, cells per position.

    Args:
      path: Folder of the group; its content is replaced.
      shape: Shape of the whole density.
      spacing: Micrometres per position, if known.

    Returns:
      A function that writes a box of it.
    """
    axes, chunk = "zyx"[3 - len(shape) :], CHUNKS[len(shape)]
    store = create_ome_zarr(path, shape, "float32", axes=axes, chunk=chunk, spacing=spacing)
    return lambda box, values: store[box].write(values).result()
