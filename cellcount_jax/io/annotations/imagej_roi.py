"""ImageJ regions: one `.roi`, or a zip of them (RoiSet.zip).

ImageJ has two conventions: integer coordinates of points are centres of pixels, those of areas
are corners. Slices count from 1. Points become dots, areas their centres; lines are errors.
"""

import io
import re
import zipfile

import numpy as np
import roifile

from cellcount_jax.io import log_messages
from cellcount_jax.io.annotations import base, polygon

_TYPE = roifile.ROI_TYPE
_OUTLINES = (_TYPE.POLYGON, _TYPE.FREEHAND, _TYPE.TRACED)
_BOXES = (_TYPE.RECT, _TYPE.OVAL)
# Names that ImageJ makes from a position, such as 0003-0120-0044.
_POSITION_NAME = re.compile(r"\d{4,}-\d{4,}(-\d{4,})?(-\d+)?")
_MAX_BYTES = 1 << 28
_MAX_BOUND = 32_000  # bounds are 16-bit and wrap around
_MULTIPOINT = (
    roifile.ROI_OPTIONS.SUB_PIXEL_RESOLUTION
    | roifile.ROI_OPTIONS.OVERLAY_BACKGROUNDS
    | roifile.ROI_OPTIONS.SHOW_LABELS
)


def is_roi(source: base.Source) -> bool:
    """First bytes of an ImageJ region."""
    return source.data.startswith(b"Iout")


def is_zip(source: base.Source) -> bool:
    """First bytes of a zip file, be it empty."""
    return source.data.startswith((b"PK\x03\x04", b"PK\x05\x06"))


def read_roi(source: base.Source, options: base.Options) -> base.Found:
    """Dots of one region."""
    return _join(source, [_region(source, source.data, 1)])


def read_zip(source: base.Source, options: base.Options) -> base.Found:
    """Dots of every region in a zip file; entries that are no regions are errors."""
    packed = []
    try:
        with zipfile.ZipFile(io.BytesIO(source.data)) as archive:
            entries = [entry for entry in archive.infolist() if not _is_litter(entry)]
            size = sum(entry.file_size for entry in entries)
            other = [e.filename for e in entries if not e.filename.lower().endswith(".roi")]
            if size <= _MAX_BYTES and not other:
                packed = [archive.read(entry) for entry in entries]
    except Exception as error:  # zipfile raises many kinds for damaged files
        source.fail(f"is a damaged zip file ({base.one_line(error)})")
    if other:
        source.fail(f"holds {base.quoted(other[0])}; a set of regions holds .roi files only")
    if size > _MAX_BYTES:
        source.fail("unpacks to more than 256 MB; is this a set of regions?")
    return _join(source, [_region(source, data, i + 1) for i, data in enumerate(packed)])


def write_roi(dots: base.Dots, options: base.Options) -> bytes:
    """One multi-point region; scores and labels are left out, z becomes whole slices."""
    if not len(dots):
        raise ValueError("an ImageJ .roi file cannot hold zero dots. Write a RoiSet.zip instead")
    return _multipoint(dots.points, "").tobytes()


def write_zip(dots: base.Dots, options: base.Options) -> bytes:
    """A multi-point region per run of dots with one label; scores are left out."""
    labels = list(dots.labels) if dots.labels is not None else [""] * len(dots)
    starts = [i for i in range(len(dots)) if i == 0 or labels[i] != labels[i - 1]]
    stops = [*starts[1:], len(dots)][: len(starts)]
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for k, (start, stop) in enumerate(zip(starts, stops, strict=True)):
            region = _multipoint(dots.points[start:stop], labels[start])
            archive.writestr(f"{k + 1:04d}.roi", region.tobytes())
    return out.getvalue()


def _is_litter(entry: zipfile.ZipInfo) -> bool:
    """Folders, and what macOS adds to archives."""
    return entry.is_dir() or entry.filename.startswith("__MACOSX/")


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


def _region(source: base.Source, data: bytes, number: int) -> tuple[np.ndarray, bool, str]:
    """Points [n, 3] (slice from 1 or 0 for none, y, x), whether they are corners, the name."""
    try:
        with log_messages.caught("roifile") as damage:
            region = roifile.ImagejRoi.frombytes(data)
        xy = np.asarray(region.coordinates(), np.float64).reshape(-1, 2)
    except Exception as error:  # roifile trusts the counts and offsets of the file
        source.fail(f"is a damaged ImageJ region ({base.one_line(error)})", number, "region")
    if not damage and not _in_bounds(region, xy):
        damage = ["its coordinates lie outside its own bounds"]
    if damage:
        source.fail(f"is a damaged ImageJ region ({damage[0]})", number, "region")
    slices = np.full(len(xy), region.z_position or region.position, np.float64)
    if region.roitype == _TYPE.POINT:
        positions = region.counter_positions
        if positions is not None and np.any(positions):
            slices = np.asarray(positions, np.float64)
        corner = False
    elif len(xy) and (region.roitype in _OUTLINES or region.multi_coordinates is not None):
        xy, slices, corner = polygon.centroid([xy])[None], slices[:1], True
    elif region.roitype in _BOXES:
        box = np.array([[region.left + region.right, region.top + region.bottom]]) / 2
        if region.subpixelrect:
            box = np.array([[region.xd + region.widthd / 2, region.yd + region.heightd / 2]])
        xy, slices, corner = box, slices[:1], True
    else:
        kind = region.roitype.name.lower()
        source.fail(
            f"{base.quoted(region.name)} is a {kind}, neither points nor an area. Take it out",
            number,
            "region",
        )
    return np.concatenate([slices[:, None], xy[:, ::-1]], axis=1), corner, region.name


def _in_bounds(region: roifile.ImagejRoi, xy: np.ndarray) -> bool:
    """Whether coordinates agree with the bounds in the header, where those can hold them."""
    low, high = np.array([region.left, region.top]), np.array([region.right, region.bottom])
    if not len(xy) or not (low < high).all() or np.abs([low, high]).max() > _MAX_BOUND:
        return True
    # Versions of ImageJ round the bounds in different ways.
    return bool(((xy >= low - 2) & (xy <= high + 2)).all())


def _join(source: base.Source, regions: list[tuple[np.ndarray, bool, str]]) -> base.Found:
    counts = [len(points) for points, _, _ in regions]
    points = np.concatenate([np.zeros((0, 3)), *(points for points, _, _ in regions)])
    names = ["" if _POSITION_NAME.fullmatch(name) else name for _, _, name in regions]
    places = np.repeat(np.arange(1, len(regions) + 1), counts)
    unset = points[:, 0] <= 0
    if unset.any() and not unset.all():
        number = int(places[unset.argmax()])
        source.fail("has no slice, but other regions have one", number, "region")
    points[:, 0] -= 1
    labels = np.repeat(np.array(names, dtype=object), counts).tolist()
    return base.Found(
        points=points[:, 1:] if unset.all() and len(points) else points,
        places=places.tolist(),
        place="region",
        labels=labels if any(names) else None,
        corner=np.repeat(np.array([corner for _, corner, _ in regions], bool), counts),
        planar=True,
    )
