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


NOT_CELL = np.array([1.0, 0.23, 0.19], np.float32)
"""RGB of places marked as no cell."""

PROPOSAL_ALPHA = 0.6
"""How opaque a proposal is in an overview, where it cannot be a ring."""


class Appearance(NamedTuple):
    """Columns of a points layer, a row per dot.

    Attributes:
      face: RGBA float32; proposals are rings.
      border: RGBA float32.
      size: Diameter in pixels, float32.
    """

    face: np.ndarray
    border: np.ndarray
    size: np.ndarray


def appearance(
    rows: Rows, *, diameter: float, slice_index: float | None = None, near: int = 0
) -> Appearance:
    """Looks of dots.

    Args:
      rows: Rows of the dots.
      diameter: Diameter of a dot on the slice, in pixels.
      slice_index: The slice of a volume that is looked at; None draws all alike.
      near: Slices to both sides whose dots are also drawn.
    """
    colour, alpha = _colours(rows), _alpha(rows, slice_index)
    size = np.full(len(rows), diameter, np.float32)
    if slice_index is not None:
        away = np.abs(np.rint(rows.points[:, 0]) - round(slice_index))
        size *= 1 - (1 - FARTHEST_SIZE) * np.minimum(away / max(near, 1), 1)
    filled = rows.states != State.PROPOSED
    face = np.concatenate([colour, (alpha * np.where(filled, 0.85, 0.0))[:, None]], axis=1)
    border = np.concatenate([np.where(filled[:, None], 0.1, colour), alpha[:, None]], axis=1)
    return Appearance(face.astype(np.float32), border.astype(np.float32), size)


def overview_colours(rows: Rows, *, slice_index: float | None = None) -> np.ndarray:
    """[N, 4] uint8 RGBA of dots that are drawn as a pixel or a few."""
    alpha = _alpha(rows, slice_index)
    alpha[rows.states == State.PROPOSED] *= PROPOSAL_ALPHA
    both = np.concatenate([_colours(rows), alpha[:, None]], axis=1)
    return np.rint(255 * both).astype(np.uint8)


def _colours(rows: Rows) -> np.ndarray:
    of_class = CLASS_COLOURS[rows.classes % len(CLASS_COLOURS)]
    return np.where((rows.states == State.REJECTED)[:, None], NOT_CELL, of_class)


def _alpha(rows: Rows, slice_index: float | None) -> np.ndarray:
    alpha = np.ones(len(rows), np.float32)
    if slice_index is not None:
        alpha[np.rint(rows.points[:, 0]) != round(slice_index)] = NEAR_ALPHA
    return alpha
