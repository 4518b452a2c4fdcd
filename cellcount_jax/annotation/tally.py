"""Live counts: per class, slice, region and image, and the progress of a folder."""

from collections.abc import Sequence

import numpy as np

from cellcount_jax.annotation.records import State
from cellcount_jax.annotation.session import Session
from cellcount_jax.io.regions import OUTSIDE, Region


def per_class(session: Session) -> dict[str, int]:
    """Counted dots by class; of classes without dots only the first is listed."""
    classes = session.table.rows.classes[session.is_counted()]
    numbers = np.bincount(classes, minlength=len(session.classes))
    return {
        name: int(n)
        for i, (name, n) in enumerate(zip(session.classes, numbers, strict=False))
        if n or not i
    }


def per_state(session: Session) -> dict[str, int]:
    """Dots by state, without removed ones; proposals below the threshold count as such."""
    states = session.table.rows.states
    return {s.name.lower(): int((states == s).sum()) for s in State if s != State.REMOVED}


def per_slice(session: Session) -> np.ndarray:
    """[D] counted dots of each slice of a volume."""
    points = session.table.rows.points[session.is_counted()]
    slices = np.clip(np.rint(points[:, 0]), 0, session.shape[0] - 1).astype(np.int64)
    return np.bincount(slices, minlength=session.shape[0])


def per_region(session: Session, regions: Sequence[Region]) -> dict[str, int]:
    """Counted dots in each region, and outside all of them."""
    points = session.table.rows.points[session.is_counted()]
    pixels = np.clip(np.floor(points + 0.5), 0, np.array(session.shape) - 1).astype(np.int64)
    counts, anywhere = {}, np.zeros(len(points), bool)
    for region in regions:
        axes = region.inside.ndim
        at = pixels[:, -axes:] - np.asarray(region.corner)
        within = ((at >= 0) & (at < region.inside.shape)).all(axis=1)
        within[within] = region.inside[tuple(at[within].T)]
        counts[region.name] = int(within.sum())
        anywhere |= within
    return counts | {OUTSIDE: int((~anywhere).sum())}
