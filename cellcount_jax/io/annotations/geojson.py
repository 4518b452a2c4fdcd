"""GeoJSON as QuPath writes it: points, and outlines by their centre.

QuPath's origin is the corner of the full-resolution image, so the first pixel's centre is
(0.5, 0.5), and a click is kept where it was made, not snapped to a pixel: 0.5 is taken off x and y
on reading and added on writing. Planes count from 0; QuPath writes none for the first one.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from cellcount_jax.io.annotations import base, text
from cellcount_jax.io.annotations import polygon as outline

_DEFAULT_PLANE = {"c": -1, "z": 0, "t": 0}
_SCORE = "score"


def is_geojson(source: base.Source) -> bool:
    """A FeatureCollection, a Feature, or a list of Features."""
    if source.once(text.kind) != "json":
        return False
    value = source.once(text.parse_json)
    if isinstance(value, list):
        return all(isinstance(item, dict) and item.get("type") == "Feature" for item in value)
    return isinstance(value, dict) and value.get("type") in ("FeatureCollection", "Feature")


def read(source: base.Source, options: base.Options) -> base.Found:
    """Dots of every feature; a file with both points and outlines is an error."""
    points: list[tuple[float, float, float]] = []
    places: list[int] = []
    labels: list[str | None] = []
    scores: list[float | None] = []
    kinds: set[str] = set()
    volume = False
    for number, feature in enumerate(_features(source), 1):
        if not isinstance(feature, dict) or feature.get("type") != "Feature":
            source.fail("is not a GeoJSON Feature", number, "feature")
        kind, xy, plane = _geometry(source, feature.get("geometry"), number)
        kinds.add(kind)
        z = plane.get("z", 0)
        if not base.is_number(z):
            source.fail(f"plane z is {base.quoted(z)}, not a number", number, "feature")
        # QuPath leaves the default plane out: where it is written, it is meant.
        volume |= z > 0 or plane == _DEFAULT_PLANE
        label, score = _properties(source, feature.get("properties"), number)
        for x, y in xy:
            points.append((z, y, x))
            places.append(number)
            labels.append(label)
            scores.append(score)
    if kinds >= {"points", "outline"}:
        source.fail(
            "holds both points and outlines. Are the outlines regions, not cells? "
            "Export one or the other"
        )
    if any(score is None for score in scores) and any(score is not None for score in scores):
        source.fail("has no score, but others have", places[scores.index(None)], "feature")
    return base.Found(
        points=np.array(points, np.float64).reshape(-1, 3),
        places=places,
        place="feature",
        labels=[label or "" for label in labels] if any(labels) else None,
        scores=None if not scores or None in scores else np.array(scores, np.float64),
        corner=True,
        planar=not volume,
    )


def write(dots: base.Dots, options: base.Options) -> bytes:
    """FeatureCollection of annotations; z becomes whole planes.

    Dots in a row with the same plane and label share a MultiPoint, unless dots have scores: those
    become measurements.
    """
    shift = 0.0 if options.origin == "centre" else 0.5
    xy = (dots.points[:, :-3:-1].astype(np.float64) + shift).tolist()
    flat = dots.points.shape[1] == 2
    z = [None] * len(dots) if flat else [int(v) for v in np.rint(dots.points[:, 0])]
    labels = list(dots.labels) if dots.labels is not None else [""] * len(dots)
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
    return text.dump_json({"type": "FeatureCollection", "features": features})


def _features(source: base.Source) -> list[Any]:
    value = source.once(text.parse_json)
    if isinstance(value, dict):
        value = [value] if value.get("type") == "Feature" else value.get("features")
    if not isinstance(value, list):
        source.fail("is not GeoJSON: it has no list of features")
    return value


def _geometry(
    source: base.Source, geometry: Any, number: int
) -> tuple[str, list[list[float]], dict[str, Any]]:
    """Kind, positions (x, y) and plane of a feature's geometry."""
    if not isinstance(geometry, dict):
        source.fail("has no geometry", number, "feature")
    kind, coordinates = geometry.get("type"), geometry.get("coordinates")
    plane = geometry.get("plane", {})
    if not isinstance(plane, dict):
        source.fail("plane is not an object", number, "feature")
    if kind == "Point":
        return "points", [_position(source, coordinates, number)], plane
    if kind == "MultiPoint":
        return "points", list(_positions(source, coordinates, number)), plane
    if kind == "Polygon":
        return "outline", [_centre(source, coordinates, number)[1]], plane
    if kind == "MultiPolygon" and isinstance(coordinates, list) and coordinates:
        # One cell in pieces: the largest piece says where it is.
        pieces = [_centre(source, polygon, number) for polygon in coordinates]
        return "outline", [max(pieces)[1]], plane
    source.fail(
        f"is a {base.quoted(kind)}, neither points nor an area. Take it out", number, "feature"
    )


def _position(source: base.Source, value: Any, number: int) -> list[float]:
    if not isinstance(value, list) or len(value) < 2 or not all(map(base.is_number, value[:2])):
        shown = base.quoted(value)
        source.fail(f"has the coordinates {shown}, not [x, y] in numbers", number, "feature")
    return value[:2]


def _positions(source: base.Source, value: Any, number: int) -> Iterator[list[float]]:
    if not isinstance(value, list):
        source.fail("has no list of coordinates", number, "feature")
    for item in value:
        yield _position(source, item, number)


def _centre(source: base.Source, rings: Any, number: int) -> tuple[float, list[float]]:
    """Bounding-box area and centre (x, y) of one polygon."""
    if not isinstance(rings, list) or not rings:
        source.fail("is an outline without coordinates", number, "feature")
    arrays = [np.array(list(_positions(source, ring, number)), np.float64) for ring in rings]
    if not all(len(ring) for ring in arrays):
        source.fail("is an outline without coordinates", number, "feature")
    return float(np.prod(np.ptp(arrays[0], axis=0))), outline.centroid(arrays).tolist()


def _properties(
    source: base.Source, properties: Any, number: int
) -> tuple[str | None, float | None]:
    """Class name and score of a feature, where it has them."""
    if not isinstance(properties, dict):
        return None, None
    classification = properties.get("classification")
    label = classification.get("name") if isinstance(classification, dict) else None
    if label is not None and not isinstance(label, str):
        source.fail(f"class name is {base.quoted(label)}, not text", number, "feature")
    measured = properties.get("measurements")
    if isinstance(measured, list):  # before QuPath 0.4: [{"name": ..., "value": ...}]
        measured = {str(m.get("name")): m.get("value") for m in measured if isinstance(m, dict)}
    score = measured.get(_SCORE) if isinstance(measured, dict) else None
    if score is not None and not base.is_number(score):
        source.fail(f"score is {base.quoted(score)}, not a number", number, "feature")
    return label, score
