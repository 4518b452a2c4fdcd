"""ImageJ regions: one `.roi`, or a zip of them (RoiSet.zip).

ImageJ has two conventions: integer coordinates of points are centres of pixels, those of areas
are corners. Slices count from 1. As dots, points are taken as they are and areas by their centre;
as regions, areas give their outlines.
"""

import io
import re
import zipfile
from collections.abc import Iterator
from pathlib import PurePath
from typing import NoReturn

import numpy as np
import roifile

from cellcount_jax.io import log_capture
from cellcount_jax.io.annotations import base
from cellcount_jax.io.annotations.centroids import polygon_centroid

_TYPE = roifile.ROI_TYPE
_OUTLINES = (_TYPE.POLYGON, _TYPE.FREEHAND, _TYPE.TRACED)
_BOXES = (_TYPE.RECT, _TYPE.OVAL)
_OVAL_VERTICES = 720
# Names that ImageJ makes from a position, such as 0003-0120-0044.
_POSITION_NAME = re.compile(r"\d{4,}-\d{4,}(-\d{4,})?(-\d+)?")
_SYSTEM_FILES = (".ds_store", "thumbs.db", "desktop.ini")
_MAX_UNPACKED_BYTES = 1 << 28
_MAX_BOUND = 32_000  # bounds are 16-bit and wrap around
_MULTIPOINT = (
    roifile.ROI_OPTIONS.SUB_PIXEL_RESOLUTION
    | roifile.ROI_OPTIONS.OVERLAY_BACKGROUNDS
    | roifile.ROI_OPTIONS.SHOW_LABELS
)


def read(file: base.AnnotationFile, options: base.Options) -> base.RawDots:
    """Dots of one region, or of every region in a zip file; lines are errors."""
    regions = [_dots(item) for _, item in _items(file)]
    counts = [len(points) for points, _, _ in regions]
    points = np.concatenate([np.zeros((0, 3)), *(points for points, _, _ in regions)])
    names = ["" if _POSITION_NAME.fullmatch(name) else name for _, _, name in regions]
    numbers = np.repeat(np.arange(1, len(regions) + 1), counts)
    unset = points[:, 0] <= 0
    if unset.any() and not unset.all():
        number = int(numbers[unset.argmax()])
        file.fail("has no slice, but other regions have one", number, "region")
    points[:, 0] -= 1
    labels = np.repeat(np.array(names, dtype=object), counts).tolist()
    return base.RawDots(
        points=points[:, 1:] if unset.all() and len(points) else points,
        numbers=numbers.tolist(),
        item="region",
        labels=labels if any(names) else None,
        corner=np.repeat(np.array([corner for _, corner, _ in regions], bool), counts),
        planar=True,
    )


def read_outlines(file: base.AnnotationFile) -> list[base.Outline]:
    """Outlines of every region, in the order of the file."""
    outlines: list[base.Outline] = []
    for name, item in _items(file):
        region = _parse(item)
        try:
            rings = [np.asarray(ring, np.float64)[:, ::-1] for ring in _rings(region)]
        except Exception as error:  # roifile trusts the counts and offsets of the file
            _fail_damaged(item, base.short_line(error))
        base.check_rings(item, rings)
        is_area = region.roitype in (*_OUTLINES, *_BOXES) and any(len(ring) > 2 for ring in rings)
        outlines.append((region.name or name, rings if is_area else None))
    return outlines


def write_roi(dots: base.Dots, options: base.Options) -> bytes:
    """One multi-point region; scores and labels are left out, z becomes whole slices."""
    if not len(dots):
        raise ValueError("an ImageJ .roi file cannot hold zero dots. Write a RoiSet.zip instead")
    return _multipoint(dots.points, "").tobytes()


def write_zip(dots: base.Dots, options: base.Options) -> bytes:
    """A multi-point region per run of dots with one label; scores are left out."""
    labels = dots.label_list
    starts = [i for i in range(len(dots)) if i == 0 or labels[i] != labels[i - 1]]
    stops = [*starts[1:], len(dots)][: len(starts)]
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for k, (start, stop) in enumerate(zip(starts, stops, strict=True)):
            region = _multipoint(dots.points[start:stop], labels[start])
            archive.writestr(f"{k + 1:04d}.roi", region.tobytes())
    return out.getvalue()


def _items(file: base.AnnotationFile) -> Iterator[tuple[str, base.Item]]:
    """Name and bytes of one region or of every region in a zip file; other entries are errors."""
    if file.kind != "zip":
        yield PurePath(file.path).stem, base.Item(file, "region", 1, file.data)
        return
    packed = []
    try:
        with zipfile.ZipFile(io.BytesIO(file.data)) as archive:
            entries = [e for e in archive.infolist() if not _is_of_the_system(e)]
            size = sum(entry.file_size for entry in entries)
            other = [e.filename for e in entries if not e.filename.lower().endswith(".roi")]
            if size <= _MAX_UNPACKED_BYTES and not other:
                packed = [(PurePath(e.filename).stem, _unpack(archive, e)) for e in entries]
    except Exception as error:  # zipfile raises many kinds for damaged files
        file.fail(f"is a damaged zip file ({base.short_line(error)})")
    if other:
        file.fail(f"holds {base.quoted(other[0])}; a set of regions holds .roi files only")
    if size > _MAX_UNPACKED_BYTES:
        file.fail("unpacks to more than 256 MB; is this a set of regions?")
    for number, (name, data) in enumerate(packed, 1):
        yield name, base.Item(file, "region", number, data)


def _is_of_the_system(entry: zipfile.ZipInfo) -> bool:
    """Whether it is a folder, or what macOS or Windows adds to folders and archives."""
    path = PurePath(entry.filename)
    added = path.name.startswith("._") or path.name.lower() in _SYSTEM_FILES
    return entry.is_dir() or path.parts[:1] == ("__MACOSX",) or added


def _unpack(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    """Bytes of an entry, never more than it declares."""
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{base.quoted(entry.filename)} is compressed in a way unknown to ImageJ")
    with archive.open(entry) as packed:
        # With a limit, because an unlimited read inflates everything first.
        return packed.read(entry.file_size)


def _multipoint(points: np.ndarray, name: str) -> roifile.ImagejRoi:
    region = roifile.ImagejRoi.frompoints(points[:, :-3:-1].astype(np.float32), name=name)
    region.roitype = _TYPE.POINT
    region.options = _MULTIPOINT
    if points.shape[1] == 3:
        slices = np.rint(points[:, 0]).astype(np.int64) + 1
        if slices.min() < 1:
            raise ValueError("an ImageJ region cannot hold a dot with z below 0")
        region.position = int(slices[0])
        region.counters = np.zeros(len(points), np.uint8)
        region.counter_positions = slices.astype(np.uint32)
    return region


def _parse(item: base.Item) -> roifile.ImagejRoi:
    try:
        with log_capture.captured_warnings("roifile") as damage:
            region = roifile.ImagejRoi.frombytes(item.value)
    except Exception as error:  # roifile trusts the counts and offsets of the file
        _fail_damaged(item, base.short_line(error))
    if damage:
        _fail_damaged(item, damage[0])
    return region


def _fail_damaged(item: base.Item, reason: str) -> NoReturn:
    item.fail(f"is a damaged ImageJ region ({reason})")


def _dots(item: base.Item) -> tuple[np.ndarray, bool, str]:
    """Points [n, 3] (slice from 1 or 0 for none, y, x), whether they are corners, the name."""
    region = _parse(item)
    try:
        xy = np.asarray(region.coordinates(), np.float64).reshape(-1, 2)
    except Exception as error:  # roifile trusts the counts and offsets of the file
        _fail_damaged(item, base.short_line(error))
    if not _in_bounds(region, xy):
        _fail_damaged(item, "its coordinates lie outside its own bounds")
    slices = np.full(len(xy), region.z_position or region.position, np.float64)
    if region.roitype == _TYPE.POINT:
        positions = region.counter_positions
        if positions is not None and np.any(positions):
            slices = np.asarray(positions, np.float64)
        corner = False
    elif len(xy) and (region.roitype in _OUTLINES or region.multi_coordinates is not None):
        xy, slices, corner = polygon_centroid([xy])[None], slices[:1], True
    elif region.roitype in _BOXES:
        left, top, right, bottom = _box(region)
        xy, slices = np.array([[left + right, top + bottom]]) / 2, slices[:1]
        corner = True
    else:
        kind = region.roitype.name.lower()
        name = base.quoted(region.name)
        item.fail(f"{name} is a {kind}, neither points nor an area. Remove it")
    return np.concatenate([slices[:, None], xy[:, ::-1]], axis=1), corner, region.name


def _box(region: roifile.ImagejRoi) -> tuple[float, float, float, float]:
    """Left, top, right, bottom."""
    if region.subpixelrect:
        return region.xd, region.yd, region.xd + region.widthd, region.yd + region.heightd
    return float(region.left), float(region.top), float(region.right), float(region.bottom)


def _rings(region: roifile.ImagejRoi) -> list[np.ndarray]:
    """Rings (x, y) of any region."""
    left, top, right, bottom = _box(region)
    if region.multi_coordinates is None and region.roitype == _TYPE.RECT:
        return [np.array([[left, top], [right, top], [right, bottom], [left, bottom]])]
    if region.multi_coordinates is None and region.roitype == _TYPE.OVAL:
        angle = np.arange(_OVAL_VERTICES) * 2 * np.pi / _OVAL_VERTICES
        unit = np.stack([np.cos(angle), np.sin(angle)], axis=1)
        centre = np.array([left + right, top + bottom]) / 2
        return [centre + unit * np.array([right - left, bottom - top]) / 2]
    return list(region.coordinates(multi=True))


def _in_bounds(region: roifile.ImagejRoi, xy: np.ndarray) -> bool:
    """Whether coordinates agree with the bounds in the header, where those can hold them."""
    low, high = np.array([region.left, region.top]), np.array([region.right, region.bottom])
    if not len(xy) or not (low < high).all() or np.abs([low, high]).max() > _MAX_BOUND:
        return True
    # Versions of ImageJ round the bounds in different ways.
    return bool(((xy >= low - 2) & (xy <= high + 2)).all())
