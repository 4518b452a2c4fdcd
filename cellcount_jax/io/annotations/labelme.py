"""LabelMe JSON: points, and other closed shapes by their centre.

LabelMe's own conversion to masks takes integer coordinates as pixels, as we do.
"""

from typing import Any

import numpy as np

from cellcount_jax.io.annotations import base, polygon, text

# Vertices that a shape must have.
_VERTICES = {"point": 1, "rectangle": 2, "mask": 2, "circle": 2, "oriented_rectangle": 4}


def is_labelme(source: base.Source) -> bool:
    """A JSON object with a list `shapes`."""
    if source.once(text.kind) != "json":
        return False
    value = source.once(text.parse_json)
    return isinstance(value, dict) and isinstance(value.get("shapes"), list)


def read(source: base.Source, options: base.Options) -> base.Found:
    """One dot per shape."""
    value = source.once(text.parse_json)
    shapes = value.get("shapes") if isinstance(value, dict) else None
    if not isinstance(shapes, list):
        source.fail("is not a LabelMe file: it has no list of shapes")
    points: list[list[float]] = []
    places, labels, scores = [], [], []
    for number, shape in enumerate(shapes, 1):
        if not isinstance(shape, dict):
            source.fail("is not an object", number, "shape")
        for x, y in _centres(source, shape, number):
            points.append([y, x])
            places.append(number)
            labels.append(str(shape.get("label") or ""))
            scores.append(shape.get("score"))
    if any(score is not None for score in scores):
        for number, score in zip(places, scores, strict=True):
            if not base.is_number(score):
                source.fail(f"score is {base.quoted(score)}, not a number", number, "shape")
    return base.Found(
        points=np.array(points, np.float64).reshape(-1, 2),
        places=places,
        place="shape",
        labels=labels if any(labels) else None,
        scores=np.array(scores, np.float64) if scores and scores[0] is not None else None,
        image_shape=base.stated_shape(value.get("imageHeight"), value.get("imageWidth")),
    )


def write(dots: base.Dots, options: base.Options) -> bytes:
    """Point shapes for an image beside the file; only 2-D."""
    if dots.points.shape[1] != 2:
        raise ValueError("LabelMe files hold no z. Write csv or a RoiSet.zip")
    labels = list(dots.labels) if dots.labels is not None else [""] * len(dots)
    shapes: list[dict[str, Any]] = []
    for i, (y, x) in enumerate(dots.points.astype(np.float64).tolist()):
        shape: dict[str, Any] = {"label": labels[i], "points": [[x, y]], "group_id": None}
        shape |= {"description": "", "shape_type": "point", "flags": {}, "mask": None}
        if dots.scores is not None:
            shape["score"] = float(str(dots.scores[i]))
        shapes.append(shape)
    height, width = options.image_shape or (None, None)
    return text.dump_json(
        {
            "version": "5.5.0",
            "flags": {},
            "shapes": shapes,
            "imagePath": options.image_name or "image.tif",
            "imageData": None,
            "imageHeight": height,
            "imageWidth": width,
        }
    )


def _centres(source: base.Source, shape: dict[str, Any], number: int) -> list[list[float]]:
    """Positions (x, y) of a shape: each of `points`, else one centre."""
    kind, vertices = shape.get("shape_type"), shape.get("points")
    if not isinstance(vertices, list) or not all(
        isinstance(v, list) and len(v) == 2 and all(map(base.is_number, v)) for v in vertices
    ):
        source.fail("points are not a list of [x, y] in numbers", number, "shape")
    wanted = _VERTICES.get(kind) if isinstance(kind, str) else None
    if wanted is not None and len(vertices) != wanted:
        source.fail(f"{kind} has {len(vertices)} vertices, not {wanted}", number, "shape")
    if kind in ("point", "points"):
        return vertices
    if kind == "circle":  # centre, then a point on the rim
        return vertices[:1]
    if kind in ("rectangle", "mask", "oriented_rectangle"):
        return [np.mean(np.array(vertices, np.float64), axis=0).tolist()]
    if kind == "polygon" and vertices:
        return [polygon.centroid([np.array(vertices, np.float64)]).tolist()]
    source.fail(f"is a {base.quoted(kind)}, neither point nor area. Take it out", number, "shape")
