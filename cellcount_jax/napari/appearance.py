"""How dots look: colour by class, fill by state, smaller and paler on near slices. NumPy only."""

from typing import NamedTuple

import numpy as np

from cellcount_jax.annotation.records import Rows, State

CLASS_COLOURS = np.array(
    [
        [0.02, 0.84, 0.63],
        [1.00, 0.60, 0.10],
        [0.28, 0.60, 1.00],
        [0.94, 0.28, 0.60],
        [1.00, 0.87, 0.20],
        [0.70, 0.45, 1.00],
    ],
    np.float32,
)
"""RGB of the classes of the keys q w e r t y."""

FARTHEST_SIZE, NEAR_ALPHA = 0.35, 0.45
"""Size of a dot on the farthest near slice, and how opaque dots of near slices are."""


class Appearance(NamedTuple):
    """Columns of a points layer, a row per dot.

    Attributes:
      shown: bool.
      face: RGBA float32; proposals are rings.
      border: RGBA float32.
      size: Pixels, float32.
    """

    shown: np.ndarray
    face: np.ndarray
    border: np.ndarray
    size: np.ndarray


def appearance(
    rows: Rows,
    counted: np.ndarray,
    *,
    diameter: float,
    slice_index: float | None = None,
    near: int = 0,
) -> Appearance:
    """Looks of the dots that are cells or may be; those marked as no cell are drawn elsewhere.

    Args:
      rows: Positions of the dots.
      counted: [N] whether each is counted; other proposals are hidden.
      diameter: Diameter of a dot on the slice, in pixels.
      slice_index: The slice of a volume that is looked at; None draws all alike.
      near: Slices to both sides whose dots are drawn, too.
    """
    shown = counted.copy()
    colour = CLASS_COLOURS[rows.classes % len(CLASS_COLOURS)]
    sure = (rows.states == State.ADDED) | (rows.states == State.ACCEPTED)
    alpha, size = np.ones(len(rows), np.float32), np.full(len(rows), diameter, np.float32)
    if slice_index is not None:
        away = np.abs(np.rint(rows.points[:, 0]) - round(slice_index))
        shown &= away <= near
        size *= 1 - (1 - FARTHEST_SIZE) * np.minimum(away / max(near, 1), 1)
        alpha[away > 0] = NEAR_ALPHA
    face = np.concatenate([colour, (alpha * np.where(sure, 0.85, 0.0))[:, None]], axis=1)
    border = np.concatenate([np.where(sure[:, None], 0.1, colour), alpha[:, None]], axis=1)
    return Appearance(shown, face.astype(np.float32), border.astype(np.float32), size)
