"""Cell Counter XML of Fiji, and cellfinder's dialect of it.

Both hold whole pixels. Fiji counts slices from 1, and every type is a kind of cell. cellfinder
counts planes from 0; type 2 is a cell, 1 is not, -1 is unknown. Files that name the image
`placeholder.tif` are cellfinder's, unless a dialect is given.
"""

import re
from collections.abc import Iterator
from xml.sax import saxutils

import defusedxml.ElementTree
import numpy as np

from cellcount_jax.io.annotations import base

_ROOT = "CellCounter_Marker_File"
_NUMBER = re.compile(r"[+-]?\d{1,15}(\.\d+)?")
_CELL, _NO_CELL = "2", "1"


def is_cell_counter(file: base.AnnotationFile) -> bool:
    """XML with Cell Counter's root."""
    return file.once(_parse).tag == _ROOT


def read(file: base.AnnotationFile, options: base.Options) -> base.RawDots:
    """Dots of a marker file, labelled by the name or number of their type."""
    root = file.once(_parse)
    if root.tag != _ROOT or root.find("Marker_Data") is None:
        file.fail(f"is not a Cell Counter file: <{_ROOT}> with <Marker_Data> is missing")
    image = (root.findtext("Image_Properties/Image_Filename") or "").strip()
    dialect = options.dialect or ("cellfinder" if image == "placeholder.tif" else "fiji")
    markers = list(_markers(file, root))
    types = {kind for kind, _, _ in markers}
    if dialect == "cellfinder":
        if types and not types & {_CELL, _NO_CELL}:
            file.fail(
                f"holds types {', '.join(sorted(types))}, but cellfinder's cells are type 2. "
                'Classify them, or pass dialect="fiji" to take all'
            )
        keep = [i for i, (kind, _, _) in enumerate(markers) if kind == _CELL]
    else:
        keep = list(range(len(markers)))
    points = np.array([markers[i][2] for i in keep], np.float64).reshape(-1, 3)
    if dialect == "fiji":
        points[:, 0] -= 1
        below = points[:, 0] < 0
        if below.any() and options.ndim != 2:
            file.fail(
                "MarkerZ is 0, but Cell Counter counts slices from 1. "
                'Written by cellfinder? Pass dialect="cellfinder"',
                keep[int(below.argmax())] + 1,
                "marker",
            )
    return base.RawDots(
        points=points,
        numbers=[i + 1 for i in keep],
        item="marker",
        labels=None if dialect == "cellfinder" else [markers[i][1] for i in keep],
        planar=True,
    )


def write(dots: base.Dots, options: base.Options) -> bytes:
    """Marker file, whole pixels and planes, dots grouped by label; scores are left out."""
    first = 0 if options.dialect == "cellfinder" else 1
    pixels = np.rint(dots.points).astype(np.int64)
    z = pixels[:, 0] + first if pixels.shape[1] == 3 else np.full(len(dots), first)
    labels = dots.label_list if first else [""] * len(dots)
    image = "placeholder.tif" if not first else options.image_name or "image.tif"
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f"<{_ROOT}>",
        " <Image_Properties>",
        f"  <Image_Filename>{saxutils.escape(image)}</Image_Filename>",
        " </Image_Properties>",
        " <Marker_Data>",
        "  <Current_Type>1</Current_Type>",
    ]
    for k, label in enumerate(dict.fromkeys(labels)):
        kind = k + 1 if first else int(_CELL)
        lines += ["  <Marker_Type>", f"   <Type>{kind}</Type>"]
        if label:
            lines.append(f"   <Name>{saxutils.escape(label)}</Name>")
        lines += [
            f"   <Marker><MarkerX>{pixels[i, -1]}</MarkerX><MarkerY>{pixels[i, -2]}</MarkerY>"
            f"<MarkerZ>{z[i]}</MarkerZ></Marker>"
            for i in range(len(dots))
            if labels[i] == label
        ]
        lines.append("  </Marker_Type>")
    lines += [" </Marker_Data>", f"</{_ROOT}>", ""]
    return "\n".join(lines).encode()


def root_tag(file: base.AnnotationFile) -> str:
    """Name of the root element, for messages."""
    return file.once(_parse).tag


def _parse(file: base.AnnotationFile):
    try:
        return defusedxml.ElementTree.fromstring(file.data, forbid_dtd=True)
    except Exception as error:  # parse errors, forbidden constructs, unknown encodings
        file.fail(f"is broken XML ({base.short_line(error)})")


def _markers(file: base.AnnotationFile, root) -> Iterator[tuple[str, str, list[float]]]:
    """Type, name and (z, y, x) as written, of each marker in the order of the file."""
    number = 0
    for group in root.iterfind("Marker_Data/Marker_Type"):
        kind = (group.findtext("Type") or "").strip()
        if not kind:
            file.fail("has a <Marker_Type> without a <Type>")
        name = (group.findtext("Name") or "").strip() or kind
        for marker in group.iterfind("Marker"):
            number += 1
            values = [(marker.findtext(f"Marker{axis}") or "").strip() for axis in "ZYX"]
            for axis, value in zip("ZYX", values, strict=True):
                if not _NUMBER.fullmatch(value):
                    shown = base.quoted(value) if value else "missing"
                    file.fail(f"Marker{axis} is {shown}, not a number", number, "marker")
            yield kind, name, [float(value) for value in values]
