"""Tables of points: napari, Spotiflow, QuPath's TSV, and any table with columns x and y.

A table of outlines (napari's Shapes layer) gives one dot per outline, not one per vertex, and a
table of objects of several kinds (QuPath's measurements) gives those that are cells.

Columns are found by name, in any case and order. Only a table without a header is read by
position, and only when the order is given.
"""

import logging
import re
from collections.abc import Sequence
from typing import Literal

import numpy as np

from cellcount_jax.io.annotations import base, csv_table, selection
from cellcount_jax.io.annotations.centroids import polygon_centroid

log = logging.getLogger(__name__)

# (z, y, x) by the names that tools give them, in order of preference; whether integers are corners.
_NAMES: tuple[tuple[tuple[str, str, str], bool], ...] = (
    (("z", "y", "x"), False),
    (("location_center_z", "location_center_y", "location_center_x"), False),  # CellProfiler
    (("", "centroid y px", "centroid x px"), True),  # QuPath's measurement table
    (("", "centroid y µm", "centroid x µm"), True),
)
_SCORES = ("score", "probability", "prob")
_LABELS = ("label", "class", "type", "category")
_IMAGES = ("image", "image_name", "filename", "file_name", "image_filename")
_MEASURED = {"area", "mean", "min", "max", "%area", "intden", "rawintden", "feret", "perim."}
_QUPATH = frozenset(("x", "y", "c", "z", "t", "class", "name", "color"))
_AREA_SHAPES = ("rectangle", "ellipse", "polygon")


def is_napari(file: base.AnnotationFile) -> bool:
    """Table with the columns that napari's points layers write."""
    return "axis-0" in file.once(csv_table.parse).header


def is_spotiflow(file: base.AnnotationFile) -> bool:
    """Table with the columns that Spotiflow writes."""
    return {"y", "x", "intensity", "probability"} <= set(file.once(csv_table.parse).header)


def is_qupath(file: base.AnnotationFile) -> bool:
    """Table with tabs whose columns are those of QuPath's point annotations and no others."""
    table = file.once(csv_table.parse)
    names = set(table.header)
    is_marked = table.trailing or bool(names & {"class", "name", "color"})
    return table.delimiter == "\t" and {"x", "y"} <= names <= _QUPATH and is_marked


def read(file: base.AnnotationFile, options: base.Options) -> base.RawDots:
    """Dots of a napari, Spotiflow or plain table."""
    table = file.once(csv_table.parse)
    if "vertex-index" in table.header:
        return _centres_of_shapes(table)
    columns, corner = _coordinates(table) if table.header else _by_position(table, options)
    rows = _rows_of_image(table, options)
    points = np.stack([table.numbers(i) for i in columns], axis=1)
    planar = False
    slices = table.find("slice")
    if len(columns) == 2 and slices is not None:  # ImageJ's results table, counted from 1
        planes = table.numbers(slices) - 1
        if len(planes) and planes.max() > 0:
            points, planar = np.concatenate([planes[:, None], points], axis=1), True
    scores, labels = table.find(*_SCORES), table.find(*_LABELS)
    return base.RawDots(
        points=points[rows],
        numbers=np.asarray(table.lines, np.int64)[rows].tolist(),
        scores=None if scores is None else table.numbers(scores)[rows],
        labels=None if labels is None else [table.columns[labels][i] for i in rows],
        corner=corner,
        unit=_unit(table, columns),
        planar=planar,
        ordered=not table.header,
    )


def read_qupath(file: base.AnnotationFile, options: base.Options) -> base.RawDots:
    """Dots of QuPath's table of point annotations: corners are integers, planes count from 0."""
    table = file.once(csv_table.parse)
    x, y, z, t, label = map(table.find, ("x", "y", "z", "t", "class"))
    if x is None or y is None:
        file.fail("is not a QuPath table of points: it has no columns x and y")
    if t is not None and len(np.unique(table.numbers(t, blank=0.0))) > 1:
        file.fail("holds points of several time points. Export one at a time")
    # An empty cell is plane 0.
    planes = np.zeros(len(table.lines)) if z is None else table.numbers(z, blank=0.0)
    points = np.stack([planes, table.numbers(y), table.numbers(x)], axis=1)
    labels = None if label is None or not any(table.columns[label]) else table.columns[label]
    return base.RawDots(points, table.lines, labels=labels, corner=True, planar=z is None)


def write(dots: base.Dots, options: base.Options) -> bytes:
    """Our own table: `[z,]y,x[,score][,label]`."""
    return _dump(dots, ("z", "y", "x")[-dots.points.shape[1] :], "score")


def write_napari(dots: base.Dots, options: base.Options) -> bytes:
    """The table of a napari points layer: `index,axis-0,axis-1[,axis-2][,score][,label]`."""
    names = [f"axis-{i}" for i in range(dots.points.shape[1])]
    return _dump(dots, names, "score", index=True)


def write_spotiflow(dots: base.Dots, options: base.Options) -> bytes:
    """Spotiflow's table without the intensity, which dots do not have."""
    return _dump(dots, ("z", "y", "x")[-dots.points.shape[1] :], "probability")


def write_qupath(dots: base.Dots, options: base.Options) -> bytes:
    """QuPath's table of points; planes are whole numbers and scores are left out."""
    shift = 0.0 if options.origin == "centre" else 0.5
    points = dots.points.astype(np.float64)
    header, columns = ["x", "y"], [csv_table.shortest(points[:, i] + shift) for i in (-1, -2)]
    if points.shape[1] == 3:
        header.append("z")
        columns.append([str(int(z)) for z in np.rint(points[:, 0])])
    blanks = [""] * len(dots)
    columns += [dots.label_list, blanks, blanks]
    _check_labels(dots)
    return csv_table.dump([*header, "class", "name", "color"], columns, "\t")


def _unit(table: csv_table.Table, columns: Sequence[int]) -> Literal["px", "um", "calibrated"]:
    """Unit of the coordinates: ImageJ's Results are in the unit of the image."""
    names = [table.header[i] for i in columns] if table.header else []
    if any(name.endswith(("µm", "μm", " um")) for name in names):
        return "um"
    is_imagej = set(names) == {"x", "y"} and _MEASURED & set(table.header)
    return "calibrated" if is_imagej else "px"


def _coordinates(table: csv_table.Table) -> tuple[list[int], bool]:
    """Columns of (y, x) or (z, y, x), and whether integers are corners."""
    header = tuple(name.replace("μ", "µ").replace(" um", " µm") for name in table.header)
    for prefix in ("axis-", "centroid-"):  # napari, scikit-image's regionprops_table
        axes = [name for name in header if re.fullmatch(prefix + r"\d+", name)]
        if axes:
            wanted = [f"{prefix}{i}" for i in range(len(axes))]
            if sorted(axes) != wanted or len(axes) not in (2, 3):
                table.file.fail(
                    f"has the axes {', '.join(axes)}; dots need {prefix}0, {prefix}1 and, in a "
                    f"volume, {prefix}2. Save one time point and channel only"
                )
            return [header.index(name) for name in wanted], False
    for names, corner in _NAMES:
        if names[1] in header and names[2] in header:
            return [header.index(name) for name in names if name and name in header], corner
    found = ", ".join(base.quoted(name) for name in header[:8])
    table.file.fail(
        f"has no columns x and y (nor axis-0, axis-1); read with {table.delimiter_name}: "
        f"{found}. Rename the columns of the positions"
    )


def _by_position(table: csv_table.Table, options: base.Options) -> tuple[list[int], bool]:
    """Like `_coordinates`, for a table without a header."""
    columns = list(range(len(table.columns)))
    if len(columns) not in (2, 3):
        table.file.fail(f"has no header and {len(columns)} columns. Name the columns: x, y", 1)
    if options.order is None:
        table.file.fail(
            "has no header. Add one, such as y,x, or name the order of its columns (xy or yx): "
            'cellcount dots convert FILE NEW.csv --order xy (order="xy" in Python)',
            1,
        )
    return columns[::-1] if options.order == "xy" else columns, False


def _centres_of_shapes(table: csv_table.Table) -> base.RawDots:
    """A dot per outline of a napari Shapes layer, whose table has a row per vertex."""
    columns, _ = _coordinates(table)
    number, kind = table.find("index"), table.find("shape-type")
    if number is None or kind is None:
        table.file.fail("has vertices but no columns index and shape-type. Save the layer again")
    vertices = np.stack([table.numbers(i) for i in columns], axis=1)
    shapes: dict[str, list[int]] = {}
    for row, shape in enumerate(table.columns[number]):
        shapes.setdefault(shape, []).append(row)
    centres = []
    for rows in shapes.values():
        name = table.columns[kind][rows[0]]
        if name not in _AREA_SHAPES:
            text = f"holds a {name}, which is not the outline of a cell. Remove it, or save points"
            table.file.fail(text, table.lines[rows[0]])
        ring = vertices[rows]
        if len(ring) < 3 or (ring[:, :-2] != ring[0, :-2]).any():
            text = "holds an outline that is not an area in one plane. Remove it, or save points"
            table.file.fail(text, table.lines[rows[0]])
        centres.append([*ring[0, :-2], *polygon_centroid([ring[:, -2:]])])
    log.info("%s: a dot at the centre of each of %d outlines", table.file.path, len(centres))
    return base.RawDots(
        points=np.array(centres, np.float64).reshape(-1, len(columns)),
        numbers=[table.lines[rows[0]] for rows in shapes.values()],
    )


def _rows_of_image(table: csv_table.Table, options: base.Options) -> Sequence[int]:
    """Rows of one image, without objects that are not cells."""
    rows = _rows_of_cells(table)
    for column in (table.header.index(name) for name in _IMAGES if name in table.header):
        images = sorted(set(table.columns[column]))
        if len(images) > 1:
            image = selection.pick_image(table.file, images, options.image_name)
            return [i for i in rows if table.columns[column][i] == image]
    return rows


def _rows_of_cells(table: csv_table.Table) -> Sequence[int]:
    """All rows, or those of cells where QuPath lists objects of several types."""
    column = table.find("object type")
    if column is None:
        return range(len(table.lines))
    kinds = [kind.casefold() for kind in table.columns[column]]
    cells = selection.cell_kinds(table.file, kinds)
    return [i for i, kind in enumerate(kinds) if kind in cells]


def _dump(dots: base.Dots, names: Sequence[str], score: str, index: bool = False) -> bytes:
    _check_labels(dots)
    header = [*(["index"] if index else []), *names]
    columns = [[str(i) for i in range(len(dots))]] if index else []
    columns += [csv_table.shortest(dots.points[:, i]) for i in range(len(names))]
    if dots.scores is not None:
        header.append(score)
        columns.append(csv_table.shortest(dots.scores))
    if dots.labels is not None:
        header.append("label")
        columns.append(list(dots.labels))
    return csv_table.dump(header, columns)


def _check_labels(dots: base.Dots) -> None:
    for label in dots.labels or ():
        if any(c in label for c in "\n\r\0"):
            raise ValueError(f"label {base.quoted(label)} does not fit in a line of a table")
