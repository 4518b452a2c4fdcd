"""GeoJSON as QuPath writes it: points, and outlines by their centre or as regions.

QuPath's origin is the corner of the full-resolution image, so the first pixel's centre is
(0.5, 0.5), and a click is kept where it was made, not snapped to a pixel: 0.5 is subtracted from x
and y on reading and added on writing. Planes count from 0; QuPath writes none for the first one.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from cellcount_jax.io.annotations import base
from cellcount_jax.io.annotations.centroids import polygon_centroid

_DEFAULT_PLANE = {"c": -1, "z": 0, "t": 0}
_SCORE = "score"


def is_geojson(file: base.AnnotationFile) -> bool:
    """A FeatureCollection, a Feature, or a list of Features."""
    if isinstance(file.json, list):
        return all(isinstance(item, dict) and item.get("type") == "Feature" for item in file.json)
    return file.json_object.get("type") in ("FeatureCollection", "Feature")


def read(file: base.AnnotationFile, options: base.Options) -> base.RawDots:
    """Dots of every feature; a file with both points and outlines is an error."""
    items: list[base.JsonItem] = []
    kinds: set[str] = set()
    volume = False
    for number, feature, geometry in _features(file):
        kind, xy = _positions_of(file, geometry, number)
        kinds.add(kind)
        plane = geometry.get("plane", {})
        if not isinstance(plane, dict):
            file.fail("plane is not an object", number, "feature")
        z = plane.get("z", 0)
        if not base.is_number(z):
            file.fail(f"plane z is {base.quoted(z)}, not a number", number, "feature")
        # QuPath leaves the default plane out: where it is written, the image is a volume.
        volume |= z > 0 or plane == _DEFAULT_PLANE
        label, score = _label_and_score(file, feature.get("properties"), number)
        items.append(base.JsonItem(number, [(z, y, x) for x, y in xy], label, score, corner=True))
    if kinds >= {"points", "outline"}:
        file.fail(
            "holds both points and outlines. Are the outlines regions, not cells? "
            "Export one or the other"
        )
    return base.join_items(file, items, name="feature", ndim=3, planar=not volume)


def read_outlines(file: base.AnnotationFile) -> list[base.Outline]:
    """Outlines of every feature, in the order of the file."""
    return [
        (_region_name(feature.get("properties"), number), _rings(file, geometry, number))
        for number, feature, geometry in _features(file)
    ]


def write(dots: base.Dots, options: base.Options) -> bytes:
    """FeatureCollection of annotations; z becomes whole planes.

    Consecutive dots with the same plane and label share a MultiPoint, unless dots have scores:
    those become measurements.
    """
    shift = 0.0 if options.origin == "centre" else 0.5
    xy = (dots.points[:, :-3:-1].astype(np.float64) + shift).tolist()
    flat = dots.points.shape[1] == 2
    z = [None] * len(dots) if flat else [int(v) for v in np.rint(dots.points[:, 0])]
    labels = dots.label_list
    scores = None if dots.scores is None else [float(str(s)) for s in dots.scores]
    features: list[dict[str, Any]] = []
    for i in range(len(dots)):
        same = i > 0 and scores is None and (z[i], labels[i]) == (z[i - 1], labels[i - 1])
        if same:
            features[-1]["geometry"]["coordinates"].append(xy[i])
            continue
        geometry: dict[str, Any] = {"type": "MultiPoint", "coordinates": [xy[i]]}
        if z[i] is not None:
            geometry["plane"] = _DEFAULT_PLANE | {"z": z[i]}
        properties: dict[str, Any] = {"objectType": "annotation"}
        if labels[i]:
            properties["classification"] = {"name": labels[i]}
        if scores is not None:
            properties["measurements"] = {_SCORE: scores[i]}
        features.append({"type": "Feature", "geometry": geometry, "properties": properties})
    for feature in features:
        geometry = feature["geometry"]
        if len(geometry["coordinates"]) == 1:
            geometry |= {"type": "Point", "coordinates": geometry["coordinates"][0]}
    return base.dump_json({"type": "FeatureCollection", "features": features})


def _features(file: base.AnnotationFile) -> Iterator[tuple[int, dict[str, Any], dict[str, Any]]]:
    """Number from 1, feature and its geometry."""
    value = file.json
    if isinstance(value, dict):
        value = [value] if value.get("type") == "Feature" else value.get("features")
    if not isinstance(value, list):
        file.fail("is not GeoJSON: it has no list of features")
    for number, feature in enumerate(value, 1):
        if not isinstance(feature, dict) or feature.get("type") != "Feature":
            file.fail("is not a GeoJSON Feature", number, "feature")
        geometry = feature.get("geometry")
        if not isinstance(geometry, dict):
            file.fail("has no geometry", number, "feature")
        yield number, feature, geometry


def _positions_of(
    file: base.AnnotationFile, geometry: dict[str, Any], number: int
) -> tuple[str, list[list[float]]]:
    """Kind of a feature's geometry, and positions (x, y) of its dots."""
    kind, coordinates = geometry.get("type"), geometry.get("coordinates")
    if kind == "Point":
        return "points", [_position(file, coordinates, number)]
    if kind == "MultiPoint":
        return "points", _positions(file, coordinates, number)
    polygons = _polygons(file, geometry, number)
    if not polygons:
        text = f"is a {base.quoted(kind)}, neither points nor an area. Take it out"
        file.fail(text, number, "feature")
    # One cell in pieces: the largest piece (by its bounding box) says where it is.
    centres = [
        (float(np.prod(np.ptp(rings[0], axis=0))), polygon_centroid(rings).tolist())
        for rings in polygons
    ]
    return "outline", [max(centres)[1]]


def _polygons(
    file: base.AnnotationFile, geometry: dict[str, Any], number: int
) -> list[list[np.ndarray]]:
    """Rings [M, 2] (x, y) of each polygon of an area; none for points and lines."""
    kind, coordinates = geometry.get("type"), geometry.get("coordinates")
    if kind not in ("Polygon", "MultiPolygon"):
        return []
    polygons: Any = [coordinates] if kind == "Polygon" else coordinates
    if not isinstance(polygons, list) or not all(isinstance(p, list) and p for p in polygons):
        polygons = []
    arrays = [
        [np.array(_positions(file, ring, number), np.float64) for ring in rings]
        for rings in polygons
    ]
    if not arrays or not all(len(ring) for rings in arrays for ring in rings):
        file.fail("is an outline without coordinates", number, "feature")
    return arrays


def _rings(
    file: base.AnnotationFile, geometry: dict[str, Any], number: int
) -> list[np.ndarray] | None:
    rings = [ring[:, ::-1] for polygon in _polygons(file, geometry, number) for ring in polygon]
    try:
        base.check_rings(rings)
    except ValueError as error:
        file.fail(f"has an outline that cannot be read ({error})", number, "feature")
    if not all(len(ring) > 2 for ring in rings):
        file.fail("has an outline of fewer than three points", number, "feature")
    return rings or None


def _position(file: base.AnnotationFile, value: Any, number: int) -> list[float]:
    if not isinstance(value, list) or len(value) < 2 or not all(map(base.is_number, value[:2])):
        shown = base.quoted(value)
        file.fail(f"has the coordinates {shown}, not [x, y] in numbers", number, "feature")
    return value[:2]


def _positions(file: base.AnnotationFile, value: Any, number: int) -> list[list[float]]:
    if not isinstance(value, list):
        file.fail("has no list of coordinates", number, "feature")
    return [_position(file, item, number) for item in value]


def _class_name(properties: dict[str, Any]) -> Any:
    classification = properties.get("classification")
    return classification.get("name") if isinstance(classification, dict) else None


def _label_and_score(file: base.AnnotationFile, properties: Any, number: int) -> tuple[str, Any]:
    """Class name and score of a feature, where it has them."""
    if not isinstance(properties, dict):
        return "", None
    label = _class_name(properties) or ""
    if not isinstance(label, str):
        file.fail(f"class name is {base.quoted(label)}, not text", number, "feature")
    measured = properties.get("measurements")
    if isinstance(measured, list):  # before QuPath 0.4: [{"name": ..., "value": ...}]
        measured = {str(m.get("name")): m.get("value") for m in measured if isinstance(m, dict)}
    return label, measured.get(_SCORE) if isinstance(measured, dict) else None


def _region_name(properties: Any, number: int) -> str:
    properties = properties if isinstance(properties, dict) else {}
    for name in (properties.get("name"), _class_name(properties)):
        if isinstance(name, str) and name.strip():
            return name.strip()
    return f"region {number}"
