"""Tables of points: napari, Spotiflow, QuPath's TSV, and any table with columns x and y.

Columns are found by name, in any case and order. Only a table without a header is read by
position, and only when the order is given.
"""

from collections.abc import Sequence

import numpy as np

from cellcount_jax.io.annotations import base, csv_table

# (z, y, x) by the names that tools give them, surest first. The flag: integers are pixel corners.
_NAMES: tuple[tuple[tuple[str, str, str], bool], ...] = (
    (("z", "y", "x"), False),
    (("location_center_z", "location_center_y", "location_center_x"), False),  # CellProfiler
    (("", "centroid y px", "centroid x px"), True),  # QuPath's measurement table
)
_MICROMETRES = (("", "centroid y µm", "centroid x µm"), True)
_SCORES = ("score", "probability", "prob")
_LABELS = ("label", "class", "type", "category")
_IMAGES = ("image", "image_name", "filename", "file_name", "image_filename")
_QUPATH = frozenset(("x", "y", "c", "z", "t", "class", "name", "color"))


def is_napari(file: base.AnnotationFile) -> bool:
    """Table with the columns that napari's points layers write."""
    return "axis-0" in file.once(csv_table.parse).names


def is_spotiflow(file: base.AnnotationFile) -> bool:
    """Table with the columns that Spotiflow writes."""
    return {"y", "x", "intensity", "probability"} <= set(file.once(csv_table.parse).names)


def is_qupath(file: base.AnnotationFile) -> bool:
    """Table with tabs whose columns are those of QuPath's point annotations and no others."""
    t = file.once(csv_table.parse)
    is_marked = t.trailing or not {"class", "name", "color"}.isdisjoint(t.names)
    return t.delimiter == "\t" and {"x", "y"} <= set(t.names) <= _QUPATH and is_marked


def read(file: base.AnnotationFile, options: base.Options) -> base.RawDots:
    """Dots of a napari, Spotiflow or plain table."""
    t = file.once(csv_table.parse)
    if t.header is None:
        return _read_headerless(file, options, t)
    columns, corner = _coordinates(file, options, t)
    rows = _rows_of_image(file, options, t)
    points = np.stack(
        [csv_table.numbers(file, t, i, t.header[i] or f"column {i + 1}") for i in columns], axis=1
    )
    planar = False
    if len(columns) == 2 and "slice" in t.header:  # ImageJ's results table, counted from 1
        planes = csv_table.numbers(file, t, t.header.index("slice"), "slice") - 1
        if len(planes) and planes.max() > 0:
            points, planar = np.concatenate([planes[:, None], points], axis=1), True
    scores = next((t.header.index(name) for name in _SCORES if name in t.header), None)
    labels = next((t.header.index(name) for name in _LABELS if name in t.header), None)
    return base.RawDots(
        points=points[rows],
        numbers=np.asarray(t.lines, np.int64)[rows].tolist(),
        scores=None if scores is None else csv_table.numbers(file, t, scores, "score")[rows],
        labels=None if labels is None else [t.columns[labels][i] for i in rows],
        corner=corner,
        planar=planar,
    )


def read_qupath(file: base.AnnotationFile, options: base.Options) -> base.RawDots:
    """Dots of QuPath's table of point annotations: corners are integers, planes count from 0."""
    t = file.once(csv_table.parse)
    if t.header is None or not {"x", "y"} <= set(t.header):
        file.fail("is not a QuPath table of points: it has no columns x and y")
    columns = {name: i for i, name in enumerate(t.header)}
    axes = [csv_table.numbers(file, t, columns[name], name) for name in ("y", "x")]
    if "t" in columns:
        times = csv_table.numbers(file, t, columns["t"], "t", blank=0.0)
        if len(np.unique(times)) > 1:
            file.fail("holds points of several time points. Export one at a time")
    # An empty cell is plane 0.
    planes = csv_table.numbers(file, t, columns["z"], "z", blank=0.0) if "z" in columns else None
    points = np.stack([np.zeros_like(axes[0]) if planes is None else planes, *axes], axis=1)
    labels = t.columns[columns["class"]] if "class" in columns else None
    if labels is not None and not any(labels):
        labels = None
    return base.RawDots(points, t.lines, labels=labels, corner=True, planar=planes is None)


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
    places = dots.points.astype(np.float64)
    header, columns = ["x", "y"], [csv_table.shortest(places[:, i] + shift) for i in (-1, -2)]
    if places.shape[1] == 3:
        header.append("z")
        columns.append([str(int(z)) for z in np.rint(places[:, 0])])
    blanks = [""] * len(dots)
    columns += [dots.label_list, blanks, blanks]
    _check_labels(dots)
    return csv_table.dump([*header, "class", "name", "color"], columns, "\t")


def _coordinates(
    file: base.AnnotationFile, options: base.Options, t: csv_table.Table
) -> tuple[list[int], bool]:
    """Columns of (y, x) or (z, y, x), and whether integers are corners."""
    header = tuple(name.replace("μ", "µ").replace(" um", " µm") for name in t.names)
    for prefix in ("axis-", "centroid-"):  # napari, scikit-image's regionprops_table
        axes = [
            name for name in header if name.startswith(prefix) and name[len(prefix) :].isdigit()
        ]
        if axes:
            wanted = [f"{prefix}{i}" for i in range(len(axes))]
            if sorted(axes) != wanted or len(axes) not in (2, 3):
                file.fail(
                    f"has the axes {', '.join(axes)}; dots need {prefix}0, {prefix}1 and, in a "
                    f"volume, {prefix}2. Save one time point and channel only"
                )
            return [header.index(name) for name in wanted], False
    for names, corner in (*_NAMES, _MICROMETRES):
        if names[1] in header and names[2] in header:
            if "µm" in names[1] and options.spacing is None:
                file.fail("gives positions in micrometres. Pass spacing=(y, x), the pixel size")
            return [header.index(name) for name in names if name and name in header], corner
    found = ", ".join(base.quoted(name) for name in header[:8])
    file.fail(
        f"has no columns x and y (nor axis-0, axis-1); read with {csv_table.delimiter_name(t)}: "
        f"{found}. Rename the columns of the positions"
    )


def _rows_of_image(
    file: base.AnnotationFile, options: base.Options, t: csv_table.Table
) -> Sequence[int]:
    for name in _IMAGES:
        if name in t.names:
            cells = t.columns[t.names.index(name)]
            images = sorted(set(cells))
            if len(images) > 1:
                image = base.pick_image(file, images, options.image_name)
                return [i for i, cell in enumerate(cells) if cell == image]
    return range(len(t.lines))


def _read_headerless(
    file: base.AnnotationFile, options: base.Options, t: csv_table.Table
) -> base.RawDots:
    if len(t.columns) not in (2, 3):
        file.fail(f"has no header and {len(t.columns)} columns. Name the columns: x, y", 1)
    if options.order is None:
        file.fail('has no header. Pass order="xy" or order="yx", or name the columns', 1)
    points = np.stack(
        [csv_table.numbers(file, t, i, f"column {i + 1}") for i in range(len(t.columns))], axis=1
    )
    if options.order == "xy":
        points = points[:, ::-1]
    return base.RawDots(points, t.lines, ordered=True)


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
