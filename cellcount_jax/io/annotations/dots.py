"""Reads and writes dots in the formats of other tools.

Every format is converted from its own convention to ours: (y, x) or (z, y, x) in pixels,
integer = centre of that pixel, planes from 0.

| format | content | its convention |
|---|---|---|
| `csv` | columns `[z,]y,x` by name, also ImageJ's X and Y; `score`, `label` | pixels as written; \
ImageJ's Results in the image's unit |
| `napari` | `index,axis-0,axis-1[,axis-2],...` | as ours |
| `spotiflow` | `[z,]y,x,intensity,probability` | as ours |
| `qupath_tsv` | `x y [z] class name color`, tabs | pixel corners are integers |
| `geojson` | QuPath's features: points, or outlines by their centre | pixel corners are integers |
| `roi`, `roi_zip` | ImageJ regions: points, or areas by their centre | points as ours, areas from \
corners; slices from 1 |
| `cell_counter` | Fiji's Cell Counter XML; cellfinder's dialect | whole pixels; slices from 1 \
(cellfinder: 0) |
| `labelme` | shapes: points, or areas by their centre | as ours |
| `coco` | keypoints, or boxes by their centre | keypoints as ours, boxes from corners |
| `dots_image` | a marked pixel per cell | as ours |
| `label_mask` | a number per cell, also Cellpose's `_seg.npy`; centres | as ours |
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from cellcount_jax.io.annotations import base, coordinates, registry
from cellcount_jax.io.annotations.base import Dots
from cellcount_jax.runtime.replace_file import replacing

FORMAT_NAMES = tuple(registry.FORMATS)


def read_dots(
    path: str | os.PathLike[str],
    *,
    format: str | None = None,
    image_shape: Sequence[int] | None = None,
    ndim: int | None = None,
    order: Literal["yx", "xy"] | None = None,
    origin: Literal["centre", "corner"] | None = None,
    spacing: float | Sequence[float] | None = None,
    pixel_size: Sequence[float] | None = None,
    dialect: Literal["fiji", "cellfinder"] | None = None,
    image_name: str | None = None,
) -> Dots:
    """Reads the dots of one image or volume from a file.

    Args:
      path: The file.
      format: One of `FORMAT_NAMES`; None detects it from the content.
      image_shape: Sides of the image without channels, (H, W) or (D, H, W). With it, dots
        outside are an error, and it decides whether a file with planes is read in 2-D or 3-D.
      ndim: 2 or 3 where `image_shape` is not known.
      order: Which column comes first in a table without header; in any other file, "xy" swaps x and
        y.
      origin: Position of (0, 0), the centre or the corner of the first pixel; by default
        where the format has it.
      spacing: Size of a pixel in micrometres, one number or one per axis in the order of the
        points; for files in micrometres.
      pixel_size: Pixel size in the image's file, (y, x) or (z, y, x) in micrometres, if known;
        used where the file of dots is in micrometres, which is logged.
      dialect: Dialect of a Cell Counter file, by default detected.
      image_name: Image whose dots to read from a file with those of several.

    Returns:
      The dots, possibly none.

    Raises:
      ValueError: The file cannot be read, or its dots do not fit the image. One line that names
        the file and, where it has them, the line.
    """
    options = base.Options(
        image_shape, ndim, order, origin, spacing, pixel_size, dialect, image_name
    )
    return locate_dots(path, options, format=format)[0]


def locate_dots(
    path: str | os.PathLike[str],
    options: base.Options,
    *,
    format: str | None = None,
    allow_outside: bool = False,
) -> tuple[Dots, list[int], str]:
    """Like `read_dots`, with the place of each dot in the file.

    Args:
      path: The file.
      options: Options of `read_dots`.
      format: As in `read_dots`.
      allow_outside: Keep dots outside the image.

    Returns:
      The dots, the number of each one's line or item counted from 1, and what is counted.
    """
    file = _open(path)
    reader = _format(format or registry.detect(file))
    if not file.data.strip():
        file.fail("is empty")
    raw = reader.read(file, options)
    dots = coordinates.to_pixel_coordinates(file, raw, options)
    numbers = [int(number) for number in raw.numbers]
    if options.image_shape is not None and not allow_outside:
        dots = coordinates.moved_to_border(file, dots, options.image_shape)
        out = np.flatnonzero(coordinates.outside(dots.points, options.image_shape))
        if len(out):
            text = coordinates.outside_message(dots.points, options.image_shape, int(out[0]))
            file.fail(text, numbers[out[0]], raw.item)
    return dots, numbers, raw.item


def write_dots(
    path: str | os.PathLike[str],
    dots: Dots | np.ndarray,
    *,
    format: str | None = None,
    image_shape: Sequence[int] | None = None,
    origin: Literal["centre", "corner"] | None = None,
    dialect: Literal["fiji", "cellfinder"] | None = None,
    image_name: str | None = None,
) -> None:
    """Writes dots to a file; reading it returns them to the format's precision.

    What a format cannot hold is left out: scores in `roi`, `roi_zip`, `cell_counter`,
    `qupath_tsv` and images; labels in `roi`, images and cellfinder's dialect. Cell Counter and
    images hold whole pixels; planes are whole except in tables.

    Args:
      path: The file; its folder must exist.
      dots: The dots, or [N, ndim] points alone.
      format: One of `FORMAT_NAMES`; None takes it from the extension (.csv, .roi, .zip, .xml,
        .geojson, .tsv).
      image_shape: Sides of the image without channels; needed for `dots_image` and `label_mask`.
      origin: "centre" makes the QuPath formats write our coordinates without the half pixel.
      dialect: Dialect of a Cell Counter file, "fiji" by default.
      image_name: Name of the image, for formats that hold it; by default that of the file
        with the extension .tif.

    Raises:
      ValueError: The format is not known or cannot hold these dots.
    """
    path = Path(path)
    if format is None:
        names = {row.extension: name for name, row in registry.FORMATS.items() if row.extension}
        format = names.get(path.suffix.lower())
        if format is None:
            raise ValueError(
                f"{path}: no format has the extension {path.suffix!r}. "
                f"Pass format=, one of {', '.join(FORMAT_NAMES)}"
            )
    if not isinstance(dots, Dots):
        dots = Dots(np.asarray(dots))
    options = base.Options(
        image_shape=image_shape,
        origin=origin,
        dialect=dialect,
        image_name=image_name or f"{path.stem}.tif",
        target=path.name,
    )
    writer = _format(format).write
    try:
        data = writer(dots, options)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    with replacing(path, "wb") as file:
        file.write(data)


def detect_format(path: str | os.PathLike[str]) -> str:
    """Name of a file's format, detected from its content.

    Raises:
      ValueError: It is in no known format.
    """
    return registry.detect(_open(path))


def _open(path: str | os.PathLike[str]) -> base.AnnotationFile:
    if Path(path).is_fifo():  # reading would never end
        raise ValueError(f"{path}: is not a regular file, but a pipe")
    return base.AnnotationFile(os.fspath(path), Path(path).read_bytes())


def _format(name: str) -> registry.Format:
    if name not in registry.FORMATS:
        raise ValueError(f"format {name!r} is not one of {', '.join(FORMAT_NAMES)}")
    return registry.FORMATS[name]
