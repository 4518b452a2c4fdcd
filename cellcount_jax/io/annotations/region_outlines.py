"""Whole outlines of regions in ImageJ's and QuPath's files; of cells see `imagej`, `geojson`."""

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import roifile

from cellcount_jax.io import log_messages
from cellcount_jax.io.annotations import base, text

_AREAS = ("POLYGON", "FREEHAND", "TRACED", "RECT", "OVAL")
_OVAL_CORNERS = 720
_MAX_BYTES = 1 << 28
_FARTHEST = 1e9  # no image is larger, and products stay numbers

Outline = tuple[str, list[np.ndarray] | None]
"""Name and rings [M, 2] (y, x), integers at corners of pixels; None for points and lines."""


def read_outlines(source: base.Source) -> list[Outline]:
    """Outlines of an ImageJ `.roi`, a zip of them, or GeoJSON, in the order of the file.

    Raises:
      ValueError: the file is damaged or of another kind; one line.
    """
    if source.data.startswith((b"Iout", b"PK")):
        return list(_rois(source))
    return list(_features(source))


def _rois(source: base.Source) -> Iterator[Outline]:
    if source.data.startswith(b"Iout"):
        yield _roi(source, source.data, Path(source.name).stem, 1)
        return
    try:
        with zipfile.ZipFile(io.BytesIO(source.data)) as archive:
            entries = [
                entry
                for entry in archive.infolist()
                if not entry.is_dir() and not entry.filename.startswith("__MACOSX/")
            ]
            if sum(entry.file_size for entry in entries) > _MAX_BYTES:
                raise ValueError("it unpacks to more than 256 MB")
            packed = [(Path(entry.filename).stem, archive.read(entry)) for entry in entries]
    except Exception as error:  # zipfile raises many kinds for damaged files
        source.fail(f"is a damaged zip file ({base.one_line(error)})")
    for number, (name, data) in enumerate(packed, 1):
        yield _roi(source, data, name, number)


def _roi(source: base.Source, data: bytes, name: str, number: int) -> Outline:
    try:
        with log_messages.caught("roifile") as damage:
            roi = roifile.ImagejRoi.frombytes(data)
        if damage:
            raise ValueError(damage[0])
        rings = [np.asarray(ring, np.float64)[:, ::-1] for ring in _roi_rings(roi)]
        _check(rings)
    except Exception as error:  # roifile trusts the counts and offsets of the file
        source.fail(f"is a damaged ImageJ region ({base.one_line(error)})", number, "region")
    is_area = roi.roitype.name in _AREAS and any(len(ring) > 2 for ring in rings)
    return roi.name or name, rings if is_area else None


def _roi_rings(roi: roifile.ImagejRoi) -> list[np.ndarray]:
    """Rings (x, y) of any region."""
    left, top, right, bottom = float(roi.left), float(roi.top), float(roi.right), float(roi.bottom)
    if roi.subpixelrect:
        left, top, right, bottom = roi.xd, roi.yd, roi.xd + roi.widthd, roi.yd + roi.heightd
    if roi.multi_coordinates is None and roi.roitype == roifile.ROI_TYPE.RECT:
        return [np.array([[left, top], [right, top], [right, bottom], [left, bottom]])]
    if roi.multi_coordinates is None and roi.roitype == roifile.ROI_TYPE.OVAL:
        angle = np.arange(_OVAL_CORNERS) * 2 * np.pi / _OVAL_CORNERS
        unit = np.stack([np.cos(angle), np.sin(angle)], axis=1)
        centre = np.array([left + right, top + bottom]) / 2
        return [centre + unit * np.array([right - left, bottom - top]) / 2]
    return list(roi.coordinates(multi=True))


def _features(source: base.Source) -> Iterator[Outline]:
    value = source.once(text.parse_json)
    if isinstance(value, dict):
        value = [value] if value.get("type") == "Feature" else value.get("features")
    if not isinstance(value, list):
        source.fail("is not GeoJSON: it has no list of features")
    for number, feature in enumerate(value, 1):
        geometry = feature.get("geometry") if isinstance(feature, dict) else None
        if not isinstance(geometry, dict):
            source.fail("has no geometry", number, "feature")
        try:
            rings = _feature_rings(geometry)
        except (TypeError, ValueError, IndexError) as error:
            source.fail(
                f"has an outline that cannot be read ({base.one_line(error)})", number, "feature"
            )
        yield _feature_name(feature.get("properties"), number), rings


def _feature_rings(geometry: dict[str, Any]) -> list[np.ndarray] | None:
    kind: Any = geometry.get("type")
    coordinates: Any = geometry.get("coordinates")
    if kind not in ("Polygon", "MultiPolygon"):
        return None
    polygons = coordinates if kind == "MultiPolygon" else [coordinates]
    rings = [
        np.array([position[:2] for position in ring], np.float64).reshape(-1, 2)[:, ::-1]
        for polygon in polygons
        for ring in polygon
    ]
    if not rings or not all(len(ring) > 2 for ring in rings):
        raise ValueError("it has fewer than three points")
    _check(rings)
    return rings


def _feature_name(properties: Any, number: int) -> str:
    properties = properties if isinstance(properties, dict) else {}
    kind = properties.get("classification")
    kind = kind.get("name") if isinstance(kind, dict) else None
    for name in (properties.get("name"), kind):
        if isinstance(name, str) and name.strip():
            return name.strip()
    return f"region {number}"


def _check(rings: list[np.ndarray]) -> None:
    for ring in rings:
        if not (np.abs(ring) < _FARTHEST).all():
            raise ValueError("a coordinate is no number, or beyond any image")
