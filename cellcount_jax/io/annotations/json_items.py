"""What the readers and writers of JSON formats share."""

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from cellcount_jax.io.annotations import base


@dataclasses.dataclass(frozen=True)
class ItemDots:
    """Dots of one item of a JSON file: positions in the order of our axes, label and score."""

    item: base.Item
    positions: Sequence[Sequence[float]]
    label: str
    score: Any
    corner: bool = False


def join_items(found: Sequence[ItemDots], *, name: str, ndim: int, **options: Any) -> base.RawDots:
    """Dots of the items of a JSON file.

    Args:
      found: Items in the order of the file.
      name: Name of an item.
      ndim: Number of axes of the positions.
      **options: Further attributes of `base.RawDots`.

    Raises:
      ValueError: Only some items have a score, or one is not a number.
    """
    dots = [(each, position) for each in found for position in each.positions]
    scored = any(each.score is not None for each, _ in dots)
    for each, _ in dots:
        if scored and each.score is None:
            each.item.fail("has no score, but others have")
        if scored and not is_number(each.score):
            each.item.fail(f"score is {base.quoted(each.score)}, not a number")
    labels = [each.label for each, _ in dots]
    return base.RawDots(
        points=np.array([position for _, position in dots], np.float64).reshape(-1, ndim),
        numbers=[each.item.number for each, _ in dots],
        item=name,
        labels=labels if any(labels) else None,
        scores=np.array([each.score for each, _ in dots], np.float64) if scored else None,
        corner=np.array([each.corner for each, _ in dots], bool),
        **options,
    )


def is_number(value: object) -> bool:
    """True for a finite JSON number, not so large that sums of products would overflow."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e15


def dump_json(value: Any) -> bytes:
    """JSON bytes, never with NaN."""
    return (json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n").encode()
