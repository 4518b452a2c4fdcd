"""Which regions of images a survey asks people about: those that prototypes point at.

Source: the survey of CountXplain (MIDL 2025), half of whose images show regions of cell prototypes
and half regions of background prototypes. Random regions, as controls, are our addition.
"""

import collections
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from cellcount_jax.explanation.prototypes import Explanation
from cellcount_jax.methods.base import Prototypes

Box = tuple[int, int, int, int]
"""Top, left, bottom, right in pixels of an image, the last two exclusive."""

GROUPS = ("cell", "background", "random")

ATTEMPTS = 200
"""Random places that are tried for one control before another image is."""


class Region(NamedTuple):
    """One question of a survey.

    Attributes:
      image: Key of the image.
      group: A group from `GROUPS`: the kind of the prototype that points at the region, or none.
      prototype: Name of the prototype; empty for random regions.
      box: See `Box`.
    """

    image: int
    group: str
    prototype: str
    box: Box


def choose(
    explained: Mapping[int, tuple[Explanation, tuple[int, int]]],
    prototypes: Prototypes,
    *,
    n_prototypes: int,
    n_random: int,
    strongest: bool,
    rng: np.random.Generator,
) -> list[Region]:
    """Regions in random order, spread evenly over prototypes and images; none overlaps another.

    Args:
      explained: Explanation and space shape of each image, by its key.
      prototypes: Prototypes of the counter.
      n_prototypes: Regions that prototypes point at, even: half for each group.
      n_random: Regions at random places, of sizes as those of the others.
      strongest: Of a prototype's boxes in an image take the one with the highest similarity;
        otherwise any.
      rng: Random generator of all choices.

    Raises:
      ValueError: The images have too few boxes for that many regions.
    """
    names, n_cell = prototypes.names, prototypes.n_cell
    wanted = [
        (group, int(k))
        for group, ks in (("cell", range(n_cell)), ("background", range(n_cell, len(names))))
        for k in np.resize(rng.permutation(ks), n_prototypes // 2)
    ]
    chosen: list[Region] = []
    for group, k in (wanted[i] for i in rng.permutation(len(wanted))):
        region = None
        for image in _least_used(explained, chosen):
            explanation, shape = explained[image]
            boxes = _boxes(explanation, k, shape, strongest, rng)
            taken = [region.box for region in chosen if region.image == image]
            box = next((box for box in boxes if not _overlaps(box, taken)), None)
            if box is not None:
                region = Region(image, group, names[k], box)
                break
        if region is None:
            asked, found = n_prototypes // 2, sum(r.group == group for r in chosen)
            raise ValueError(
                f"{len(explained)} images have too few separate regions of {group} prototypes: "
                f"{found} found of {asked}; give more images, or ask for fewer with --number"
            )
        chosen.append(region)
    chosen += _random_regions(explained, chosen, n_random, rng)
    return [chosen[i] for i in rng.permutation(len(chosen))]


def _least_used(images: Mapping[int, object], chosen: Sequence[Region]) -> list[int]:
    """Keys of all images, those with the fewest regions first."""
    used = collections.Counter(region.image for region in chosen)
    return sorted(images, key=lambda image: used[image])


def _boxes(
    explanation: Explanation,
    k: int,
    shape: tuple[int, int],
    strongest: bool,
    rng: np.random.Generator,
) -> list[Box]:
    """Boxes of prototype k inside the image, in the order in which they are tried."""
    boxes = explanation.boxes[k]
    if strongest:
        peaks = [
            float(explanation.similarity[top:bottom, left:right, k].max())
            for top, left, bottom, right in np.rint(boxes / explanation.pixels).astype(int)
        ]
        boxes = boxes[np.argsort(-np.array(peaks), kind="stable")]
    else:
        boxes = rng.permutation(boxes)
    # The last positions of a map may end beyond the image's border.
    inside = np.minimum(boxes, [*shape, *shape])
    return [_box(box) for box in inside if box[0] < box[2] and box[1] < box[3]]


def _random_regions(
    explained: Mapping[int, tuple[Explanation, tuple[int, int]]],
    chosen: Sequence[Region],
    number: int,
    rng: np.random.Generator,
) -> list[Region]:
    """Regions of the sizes of those chosen, at random places that overlap none."""
    found: list[Region] = []
    for _ in range(number):
        top, left, bottom, right = chosen[int(rng.integers(len(chosen)))].box
        size = np.array([bottom - top, right - left])
        for image in _least_used(explained, [*chosen, *found]):
            room = np.array(explained[image][1]) - size
            taken = [region.box for region in (*chosen, *found) if region.image == image]
            corners = rng.integers(0, np.maximum(room, 0) + 1, size=(ATTEMPTS, 2))
            boxes = map(_box, np.concatenate([corners, corners + size], axis=1))
            free = next((box for box in boxes if not _overlaps(box, taken)), None)
            if (room >= 0).all() and free is not None:
                found.append(Region(image, "random", "", free))
                break
        else:
            raise ValueError(
                f"{len(explained)} images have no room for {number} random regions beside the "
                "others; give more images, or ask for fewer with --random"
            )
    return found


def _box(corners: np.ndarray) -> Box:
    top, left, bottom, right = map(int, corners)
    return top, left, bottom, right


def _overlaps(box: Box, others: Sequence[Box]) -> bool:
    top, left, bottom, right = box
    return any(top < b and t < bottom and left < r and lft < right for t, lft, b, r in others)
