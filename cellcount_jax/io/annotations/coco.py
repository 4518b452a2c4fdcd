"""COCO JSON: one dot per annotation, its keypoint or the centre of its box.

COCO's keypoints are indices of pixels; a box [x, y, width, height] is measured from the image's
corner, so the centre of the one-pixel box [x, y, 1, 1] is the pixel (x, y).
"""

from typing import Any

import numpy as np

from cellcount_jax.io.annotations import base, text


def is_coco(source: base.Source) -> bool:
    """A JSON object with lists `images` and `annotations`."""
    if source.once(text.kind) != "json":
        return False
    value = source.once(text.parse_json)
    return isinstance(value, dict) and all(
        isinstance(value.get(key), list) for key in ("images", "annotations")
    )


def read(source: base.Source, options: base.Options) -> base.Found:
    """Dots of one image; with several in the file, `image_name` picks it."""
    value = source.once(text.parse_json)
    if not is_coco(source):
        source.fail("is not a COCO file: it needs lists of images and annotations")
    image, known = _image(source, value["images"], options.image_name)
    names = _category_names(value.get("categories"))
    points, corner, places, labels, scores = [], [], [], [], []
    for number, annotation in enumerate(value["annotations"], 1):
        if not isinstance(annotation, dict):
            source.fail("is not an object", number, "annotation")
        owner = annotation.get("image_id")
        if not isinstance(owner, (int, str)) or owner not in known:
            shown = base.quoted(owner)
            source.fail(f"image_id {shown} is not in the list of images", number, "annotation")
        if owner != image["id"]:
            continue
        position, boxed = _position(source, annotation, number)
        points.append(position)
        corner.append(boxed)
        places.append(number)
        labels.append(names.get(str(annotation.get("category_id")), ""))
        scores.append(annotation.get("score"))
    if any(score is not None for score in scores):
        for number, score in zip(places, scores, strict=True):
            if not base.is_number(score):
                source.fail(f"score is {base.quoted(score)}, not a number", number, "annotation")
    return base.Found(
        points=np.array(points, np.float64).reshape(-1, 2),
        places=places,
        place="annotation",
        labels=labels if any(labels) else None,
        scores=np.array(scores, np.float64) if scores and scores[0] is not None else None,
        corner=np.array(corner, bool),
        image_shape=base.stated_shape(image.get("height"), image.get("width")),
    )


def write(dots: base.Dots, options: base.Options) -> bytes:
    """One image with a keypoint and a one-pixel box per dot; only 2-D."""
    if dots.points.shape[1] != 2:
        raise ValueError("COCO files hold no z. Write csv or a RoiSet.zip")
    labels = list(dots.labels) if dots.labels is not None else ["cell"] * len(dots)
    kinds = list(dict.fromkeys(labels)) or ["cell"]
    image: dict[str, Any] = {"id": 1, "file_name": options.image_name or "image.tif"}
    if options.image_shape is not None:
        image |= {"height": options.image_shape[0], "width": options.image_shape[1]}
    annotations: list[dict[str, Any]] = []
    for i, (y, x) in enumerate(dots.points.astype(np.float64).tolist()):
        annotation: dict[str, Any] = {"id": i + 1, "image_id": 1, "iscrowd": 0, "area": 1}
        annotation |= {"category_id": kinds.index(labels[i]) + 1, "bbox": [x, y, 1, 1]}
        annotation |= {"keypoints": [x, y, 2], "num_keypoints": 1}
        if dots.scores is not None:
            annotation["score"] = float(str(dots.scores[i]))
        annotations.append(annotation)
    categories = [
        {"id": k + 1, "name": kind, "keypoints": ["centre"], "skeleton": []}
        for k, kind in enumerate(kinds)
    ]
    value = {"images": [image], "annotations": annotations, "categories": categories}
    return text.dump_json(value)


def _image(
    source: base.Source, images: list[Any], wanted: str | None
) -> tuple[dict[str, Any], set[Any]]:
    """The image asked for, and the ids of all."""
    by_name: dict[str, dict[str, Any]] = {}
    known: set[Any] = set()
    for number, image in enumerate(images, 1):
        ok = isinstance(image, dict) and isinstance(image.get("file_name"), str)
        if not ok or not isinstance(image.get("id"), (int, str)):
            source.fail("needs an id and a file_name", number, "image")
        if image["id"] in known or image["file_name"] in by_name:
            source.fail("id or file_name is already taken", number, "image")
        known.add(image["id"])
        by_name[image["file_name"]] = image
    if not by_name:
        source.fail("lists no images")
    return by_name[base.pick_image(source, list(by_name), wanted)], known


def _category_names(categories: Any) -> dict[str, str]:
    if not isinstance(categories, list):
        return {}
    return {str(c.get("id")): str(c.get("name")) for c in categories if isinstance(c, dict)}


def _position(
    source: base.Source, annotation: dict[str, Any], number: int
) -> tuple[list[float], bool]:
    """(y, x) of an annotation, and whether it is measured from the corner."""
    if annotation.get("iscrowd"):
        source.fail("is a crowd (iscrowd), not one cell", number, "annotation")
    flat = annotation.get("keypoints")
    if flat:
        if not isinstance(flat, list) or len(flat) % 3 or not all(map(base.is_number, flat)):
            source.fail("keypoints are not [x, y, visibility] numbers", number, "annotation")
        seen = [flat[i : i + 2] for i in range(0, len(flat), 3) if flat[i + 2] > 0]
        if len(seen) > 1:
            source.fail(f"has {len(seen)} keypoints; a cell has one", number, "annotation")
        if seen:
            return seen[0][::-1], False
    box = annotation.get("bbox")
    if not isinstance(box, list) or len(box) != 4 or not all(map(base.is_number, box)):
        source.fail("has neither a keypoint nor a bbox of 4 numbers", number, "annotation")
    x, y, width, height = box
    return [y + height / 2, x + width / 2], True
