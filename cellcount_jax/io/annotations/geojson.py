"""GeoJSON as QuPath writes it: points, and outlines by their centre or as regions.

QuPath's origin is the corner of the full-resolution image, so the first pixel's centre is
(0.5, 0.5), and a click is kept where it was made, not snapped to a pixel: 0.5 is subtracted from x
and y on reading and added on writing. Planes count from 0; QuPath writes none for the first one.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from cellcount_jax.io.annotations import base, json_items, selection
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
    found: list[json_items.ItemDots] = []
    kinds: set[str] = set()
    volume = False
    for feature in _cells(file):
        kind, xy = _dots_of(feature)
        kinds.add(kind)
        plane = feature.value["geometry"].get("plane", {})
        if not isinstance(plane, dict):
            feature.fail("plane is not an object")
        z = plane.get("z", 0)
        if not json_items.is_number(z):
            feature.fail(f"plane z is {base.quoted(z)}, not a number")
        # QuPath leaves the default plane out: where it is written, the image is a volume.
        volume |= z > 0 or plane == _DEFAULT_PLANE
        positions = [(z, y, x) for x, y in xy]
        found.append(
            json_items.ItemDots(feature, positions, *_label_and_score(feature), corner=True)
        )
    if kinds >= {"points", "outline"}:
        file.fail(
            "holds both points and outlines. Are the outlines regions, not cells? "
            "Export one or the other"
        )
    return json_items.join_items(found, name="feature", ndim=3, planar=not volume)


def read_outlines(file: base.AnnotationFile) -> list[base.Outline]:
    """Outlines of every feature, in the order of the file."""
    return [(_region_name(feature), _rings(feature)) for feature in _features(file)]


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
    return json_items.dump_json({"type": "FeatureCollection", "features": features})


def _cells(file: base.AnnotationFile) -> Iterator[base.Item]:
    """Features that are cells: not the tissue annotations around them."""
    features = list(_features(file))
    kinds = [str(_properties(f)[0].get("objectType", "")).casefold() for f in features]
    cells = selection.cell_kinds(file, kinds)
    return (f for f, kind in zip(features, kinds, strict=True) if kind in cells)


def _features(file: base.AnnotationFile) -> Iterator[base.Item]:
    value = file.json
    if isinstance(value, dict):
        value = [value] if value.get("type") == "Feature" else value.get("features")
    if not isinstance(value, list):
        file.fail("is not GeoJSON: it has no list of features")
    for feature in file.items(value, "feature"):
        if feature.value.get("type") != "Feature":
            feature.fail("is not a GeoJSON Feature")
        if not isinstance(feature.value.get("geometry"), dict):
            feature.fail("has no geometry")
        yield feature


def _dots_of(feature: base.Item) -> tuple[str, list[list[float]]]:
    """Kind of a feature's geometry, and positions (x, y) of its dots."""
    geometry = feature.value["geometry"]
    kind, coordinates = geometry.get("type"), geometry.get("coordinates")
    if kind == "Point":
        return "points", _positions(feature, [coordinates])
    if kind == "MultiPoint":
        return "points", _positions(feature, coordinates)
    polygons = _polygons(feature)
    if not polygons:
        feature.fail(f"is a {base.quoted(kind)}, neither points nor an area. Remove it")
    # One cell in pieces: the largest piece (by its bounding box) says where it is.
    centres = [
        (float(np.prod(np.ptp(rings[0], axis=0))), polygon_centroid(rings).tolist())
        for rings in polygons
    ]
    return "outline", [max(centres)[1]]


def _polygons(feature: base.Item) -> list[list[np.ndarray]]:
    """Rings [M, 2] (x, y) of each polygon of an area; none for points and lines."""
    geometry = feature.value["geometry"]
    kind, polygons = geometry.get("type"), geometry.get("coordinates")
    if kind not in ("Polygon", "MultiPolygon"):
        return []
    if kind == "Polygon":
        polygons = [polygons]
    if not isinstance(polygons, list) or not all(isinstance(p, list) and p for p in polygons):
        polygons = []
    arrays = [
        [np.array(_positions(feature, ring), np.float64) for ring in rings] for rings in polygons
    ]
    if not arrays or not all(len(ring) for rings in arrays for ring in rings):
        feature.fail("is an outline without coordinates")
    return arrays


def _rings(feature: base.Item) -> list[np.ndarray] | None:
    """Rings (y, x) of an area; None for points and lines."""
    rings = [ring[:, ::-1] for polygon in _polygons(feature) for ring in polygon]
    base.check_rings(feature, rings)
    if not all(len(ring) > 2 for ring in rings):
        feature.fail("has an outline of fewer than three points")
    return rings or None


def _positions(feature: base.Item, values: Any) -> list[list[float]]:
    if not isinstance(values, list):
        feature.fail("has no list of coordinates")
    for value in values:
        if (
            not isinstance(value, list)
            or len(value) < 2
            or not all(map(json_items.is_number, value[:2]))
        ):
            feature.fail(f"has the coordinates {base.quoted(value)}, not [x, y] in numbers")
    return [value[:2] for value in values]


def _properties(feature: base.Item) -> tuple[dict[str, Any], Any]:
    """Properties of a feature, and the name of its class."""
    properties = feature.value.get("properties")
    properties = properties if isinstance(properties, dict) else {}
    classification = properties.get("classification")
    return properties, classification.get("name") if isinstance(classification, dict) else None


def _label_and_score(feature: base.Item) -> tuple[str, Any]:
    """Class name and score of a feature, where it has them."""
    properties, label = _properties(feature)
    if label is not None and not isinstance(label, str):
        feature.fail(f"class name is {base.quoted(label)}, not text")
    measured = properties.get("measurements")
    if isinstance(measured, list):  # before QuPath 0.4: [{"name": ..., "value": ...}]
        measured = {str(m.get("name")): m.get("value") for m in measured if isinstance(m, dict)}
    return label or "", measured.get(_SCORE) if isinstance(measured, dict) else None


def _region_name(feature: base.Item) -> str:
    properties, class_name = _properties(feature)
    for name in (properties.get("name"), class_name):
        if isinstance(name, str) and name.strip():
            return name.strip()
    return f"region {feature.number}"
