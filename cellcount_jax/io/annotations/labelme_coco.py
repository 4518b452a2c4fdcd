"""JSON of LabelMe and COCO: one dot per shape or annotation.

LabelMe: points, and other closed shapes by their centre. Its own conversion to masks takes integer
coordinates as pixels, as we do.

COCO: the keypoint, or the centre of the box. Keypoints are indices of pixels; a box
[x, y, width, height] is measured from the image's corner, so the centre of the one-pixel box
[x, y, 1, 1] is the pixel (x, y).
"""

from typing import Any

import numpy as np

from cellcount_jax.io.annotations import base, json_items, selection
from cellcount_jax.io.annotations.centroids import polygon_centroid

Json = dict[str, Any]

# Vertices that a shape of LabelMe must have.
_VERTICES = {"point": 1, "rectangle": 2, "mask": 2, "circle": 2, "oriented_rectangle": 4}


def is_labelme(file: base.AnnotationFile) -> bool:
    """A JSON object with a list `shapes`."""
    return isinstance(file.json_object.get("shapes"), list)


def is_coco(file: base.AnnotationFile) -> bool:
    """A JSON object with lists `images` and `annotations`."""
    return all(isinstance(file.json_object.get(key), list) for key in ("images", "annotations"))


def read_labelme(file: base.AnnotationFile, options: base.Options) -> base.RawDots:
    """Dots of every shape."""
    if not is_labelme(file):
        file.fail("is not a LabelMe file: it has no list of shapes")
    found = []
    for item in file.items(file.json["shapes"], "shape"):
        positions = [(y, x) for x, y in _centres(item)]
        label = str(item.value.get("label") or "")
        found.append(json_items.ItemDots(item, positions, label, item.value.get("score")))
    shape = _stated_shape(file.json.get("imageHeight"), file.json.get("imageWidth"))
    return json_items.join_items(found, name="shape", ndim=2, image_shape=shape)


def read_coco(file: base.AnnotationFile, options: base.Options) -> base.RawDots:
    """Dots of one image; with several in the file, `image_name` picks it."""
    if not is_coco(file):
        file.fail("is not a COCO file: it needs lists of images and annotations")
    image, known_ids = _pick_image(file, options.image_name)
    categories = file.json.get("categories")
    categories = categories if isinstance(categories, list) else []
    names = {str(c.get("id")): str(c.get("name")) for c in categories if isinstance(c, dict)}
    found = []
    for item in file.items(file.json["annotations"], "annotation"):
        owner = item.value.get("image_id")
        if not isinstance(owner, (int, str)) or owner not in known_ids:
            item.fail(f"image_id {base.quoted(owner)} is not in the list of images")
        if owner == image["id"]:
            position, corner = _keypoint_or_box(item)
            label = names.get(str(item.value.get("category_id")), "")
            score = item.value.get("score")
            found.append(json_items.ItemDots(item, [position], label, score, corner))
    shape = _stated_shape(image.get("height"), image.get("width"))
    return json_items.join_items(found, name="annotation", ndim=2, image_shape=shape)


def write_labelme(dots: base.Dots, options: base.Options) -> bytes:
    """Point shapes for an image beside the file; only 2-D."""
    _check_flat(dots, "LabelMe")
    labels = dots.label_list
    shapes: list[Json] = []
    for i, (y, x) in enumerate(dots.points.astype(np.float64).tolist()):
        shape: Json = {"label": labels[i], "points": [[x, y]], "group_id": None}
        shape |= {"description": "", "shape_type": "point", "flags": {}, "mask": None}
        if dots.scores is not None:
            shape["score"] = float(str(dots.scores[i]))
        shapes.append(shape)
    height, width = options.image_shape or (None, None)
    value: Json = {"version": "5.5.0", "flags": {}, "shapes": shapes}
    value |= {"imagePath": options.image_name or "image.tif", "imageData": None}
    return json_items.dump_json(value | {"imageHeight": height, "imageWidth": width})


def write_coco(dots: base.Dots, options: base.Options) -> bytes:
    """One image with a keypoint and a one-pixel box per dot; only 2-D."""
    _check_flat(dots, "COCO")
    labels = ["cell"] * len(dots) if dots.labels is None else dots.label_list
    kinds = list(dict.fromkeys(labels)) or ["cell"]
    image: Json = {"id": 1, "file_name": options.image_name or "image.tif"}
    if options.image_shape is not None:
        image |= {"height": options.image_shape[0], "width": options.image_shape[1]}
    annotations: list[Json] = []
    for i, (y, x) in enumerate(dots.points.astype(np.float64).tolist()):
        annotation: Json = {"id": i + 1, "image_id": 1, "iscrowd": 0, "area": 1}
        annotation |= {"category_id": kinds.index(labels[i]) + 1, "bbox": [x, y, 1, 1]}
        annotation |= {"keypoints": [x, y, 2], "num_keypoints": 1}
        if dots.scores is not None:
            annotation["score"] = float(str(dots.scores[i]))
        annotations.append(annotation)
    categories = [
        {"id": k + 1, "name": kind, "keypoints": ["centre"], "skeleton": []}
        for k, kind in enumerate(kinds)
    ]
    return json_items.dump_json(
        {"images": [image], "annotations": annotations, "categories": categories}
    )


def _stated_shape(height: object, width: object) -> tuple[int, int] | None:
    """(H, W) as a file states it, None where it does not."""
    return (height, width) if isinstance(height, int) and isinstance(width, int) else None


def _check_flat(dots: base.Dots, tool: str) -> None:
    if dots.points.shape[1] != 2:
        raise ValueError(f"{tool} files hold no z. Write csv or a RoiSet.zip")


def _centres(item: base.Item) -> list[list[float]]:
    """Positions (x, y) of a shape of LabelMe: each of `points`, else one centre."""
    kind, vertices = item.value.get("shape_type"), item.value.get("points")
    if not isinstance(vertices, list) or not all(
        isinstance(v, list) and len(v) == 2 and all(map(json_items.is_number, v)) for v in vertices
    ):
        item.fail("points are not a list of [x, y] in numbers")
    wanted = _VERTICES.get(kind) if isinstance(kind, str) else None
    if wanted is not None and len(vertices) != wanted:
        item.fail(f"{kind} has {len(vertices)} vertices, not {wanted}")
    if kind in ("point", "points"):
        return vertices
    if kind == "circle":  # centre, then a point on the rim
        return vertices[:1]
    if kind in ("rectangle", "mask", "oriented_rectangle"):
        return [np.mean(np.array(vertices, np.float64), axis=0).tolist()]
    if kind == "polygon" and vertices:
        return [polygon_centroid([np.array(vertices, np.float64)]).tolist()]
    item.fail(f"is a {base.quoted(kind)}, neither point nor area. Remove it")


def _pick_image(file: base.AnnotationFile, wanted: str | None) -> tuple[Json, set[Any]]:
    """The image of a COCO file that is asked for, and the ids of all."""
    by_name: dict[str, Json] = {}
    known: set[Any] = set()
    for item in file.items(file.json["images"], "image"):
        identity, name = item.value.get("id"), item.value.get("file_name")
        if not isinstance(identity, (int, str)) or not isinstance(name, str):
            item.fail("needs an id and a file_name")
        if identity in known or name in by_name:
            item.fail("id or file_name is already taken")
        known.add(identity)
        by_name[name] = item.value
    if not by_name:
        file.fail("lists no images")
    return by_name[selection.pick_image(file, list(by_name), wanted)], known


def _keypoint_or_box(item: base.Item) -> tuple[list[float], bool]:
    """(y, x) of an annotation of COCO, and whether it is measured from the corner."""
    if item.value.get("iscrowd"):
        item.fail("is a crowd (iscrowd), not one cell")
    flat = item.value.get("keypoints")
    if flat:
        if not isinstance(flat, list) or len(flat) % 3 or not all(map(json_items.is_number, flat)):
            item.fail("keypoints are not [x, y, visibility] numbers")
        seen = [flat[i : i + 2] for i in range(0, len(flat), 3) if flat[i + 2] > 0]
        if len(seen) > 1:
            item.fail(f"has {len(seen)} keypoints; a cell has one")
        if seen:
            return seen[0][::-1], False
    box = item.value.get("bbox")
    if not isinstance(box, list) or len(box) != 4 or not all(map(json_items.is_number, box)):
        item.fail("has neither a keypoint nor a bbox of 4 numbers")
    x, y, width, height = box
    return [y + height / 2, x + width / 2], True
