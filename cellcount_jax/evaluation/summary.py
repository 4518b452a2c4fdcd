"""What one image's count, points and truth say, and what many images say together."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cellcount_jax.data.batches import raster
from cellcount_jax.evaluation import metrics
from cellcount_jax.evaluation.matching import match_points

FACTORS = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0)
"""Radii at which points are matched, as multiples of an image's own."""

LEVELS = (0, 1, 2, 3)
"""Of the grid average mean error."""

OK, WITHOUT_DOTS = "ok", "no dots"


@dataclasses.dataclass(frozen=True, eq=False)
class Row:
    """One image, or one region of it.

    Attributes:
      image: path of the image inside the folder.
      group: "" where there are none.
      roi: region of the image; "" for all of it.
      status: `ok`, `no dots`, or `error: ...`.
      predicted: the method's own count; None after an error.
      points: [N, ndim] found; None if the method gives none.
      dots: [N, ndim] true cells; None without them.
      radius: matching radius in pixels.
      matches: (tp, fp, fn) at each of `FACTORS` times the radius; empty without points or dots.
      game: error at each of `LEVELS`, in cells; empty without dots.
    """

    image: str
    group: str = ""
    roi: str = ""
    status: str = OK
    predicted: float | None = None
    points: np.ndarray | None = None
    dots: np.ndarray | None = None
    radius: float | None = None
    matches: tuple[tuple[int, int, int], ...] = ()
    game: tuple[float, ...] = ()

    @property
    def true(self) -> int | None:
        """Number of true cells."""
        return None if self.dots is None else len(self.dots)

    @property
    def n_points(self) -> int | None:
        """Number of points found."""
        return None if self.points is None else len(self.points)

    @property
    def error(self) -> float | None:
        """Predicted minus true."""
        if self.predicted is None or self.true is None:
            return None
        return self.predicted - self.true


def compare(
    row: Row,
    dots: np.ndarray,
    shape: Sequence[int],
    *,
    density: np.ndarray | None = None,
    spacing: Sequence[float] | None = None,
) -> Row:
    """The row with all that the truth of its image says.

    Args:
      row: with count, points and radius.
      dots: [N, ndim] true cells in pixels.
      shape: of the image's space.
      density: found; cells per map position.
      spacing: of a pixel in any unit, by which distances are measured.

    Returns:
      The row with its dots, matches and GAME.
    """
    matches: tuple[tuple[int, int, int], ...] = ()
    if row.points is not None and row.radius is not None:
        known = spacing if spacing is not None and len(spacing) == len(shape) else None
        radii = [row.radius * factor for factor in FACTORS]
        matches = tuple(match_points(row.points, dots, radius=r, spacing=known) for r in radii)
    game = grid_errors(dots, shape, density=density, points=row.points)
    return dataclasses.replace(row, dots=dots, matches=matches, game=game)


def grid_errors(
    dots: np.ndarray,
    shape: Sequence[int],
    *,
    density: np.ndarray | None,
    points: np.ndarray | None,
) -> tuple[float, ...]:
    """GAME at each of `LEVELS`: of the density, else of the points, else nothing."""
    if density is not None:
        # The map may be smaller than the image: true cells go where they lie on it.
        scale = np.array(density.shape) / np.asarray(shape)
        places = (np.asarray(dots).reshape(-1, len(shape)) + 0.5) * scale - 0.5
        truth = raster(places, density.shape)
        return tuple(metrics.game(density, truth, level=level) for level in LEVELS)
    if points is not None:
        return tuple(metrics.game_points(points, dots, shape, level=n) for n in LEVELS)
    return ()


def summarise(rows: Sequence[Row]) -> dict[str, Any]:
    """Errors over images, of all and of each group, and over regions by their names.

    Args:
      rows: any; only those with status ok are compared.

    Returns:
      `n_images` (compared), `n_failed`, `n_without_dots`; `mae, rmse, mape, bias, agreement_low,
      agreement_high`; `game0` to `game3`; `n_points_mae`; `f1, precision, recall` of the sums over
      all images and `macro_...` of their means, at the radius; `over_radius`, a list of the same
      for each of `FACTORS`; `radius_px`, the median; `groups`, group -> the same without groups;
      `regions`, region -> the same, where there are rows of regions. Numbers are finite or None.

    Raises:
      ValueError: no image could be compared.
    """
    of_regions = [row for row in rows if row.roi]
    rows = [row for row in rows if not row.roi]
    found = _figures(rows)
    if not found["n_images"]:
        why = next((r.status for r in rows if r.status.startswith("error")), "no dots")
        raise ValueError(f"no image could be compared; the first: {why.removeprefix('error: ')}")
    names = sorted({row.group for row in rows} - {""})
    found["groups"] = {name: _figures([r for r in rows if r.group == name]) for name in names}
    if of_regions:
        names = list(dict.fromkeys(row.roi for row in of_regions))
        found["regions"] = {n: _figures([r for r in of_regions if r.roi == n]) for n in names}
    return found


def _figures(rows: Sequence[Row]) -> dict[str, Any]:
    good = [r for r in rows if r.status == OK]
    true = np.array([r.true for r in good], float)
    errors = metrics.count_errors(np.array([r.predicted for r in good], float), true)
    low, high = errors.pop("limits_of_agreement") or (None, None)
    found: dict[str, Any] = {
        "n_images": errors.pop("n"),
        "n_failed": sum(r.status.startswith("error") for r in rows),
        "n_without_dots": sum(r.status == WITHOUT_DOTS for r in rows),
        "n_cells": sum(r.true or 0 for r in good),
        **{key: value for key, value in errors.items() if key != "mse"},
        **{"agreement_low": low, "agreement_high": high},
    }
    for level in LEVELS:
        values = [r.game[level] for r in good if r.game]
        found[f"game{level}"] = float(np.mean(values)) if values else None
    return found | _places([r for r in good if r.matches])


def _places(rows: Sequence[Row]) -> dict[str, Any]:
    """Figures of points, nothing where there are none."""
    if not rows:
        return {}
    found, true = (
        np.array(n, float) for n in zip(*((r.n_points, r.true) for r in rows), strict=True)
    )
    number = metrics.count_errors(found, true)
    over = []
    for i, factor in enumerate(FACTORS):
        sums = metrics.label_sums([r.matches[i] for r in rows])
        over.append({"factor": factor, **metrics.localisation_of_sums(sums)})
    own: Mapping[str, Any] = over[FACTORS.index(1.0)]
    radius = float(np.median([r.radius for r in rows if r.radius is not None]))
    keys = [f"{part}{key}" for part in ("", "macro_") for key in ("f1", "precision", "recall")]
    return {
        "n_points_mae": number["mae"],
        "radius_px": radius,
        **{key: own[key] for key in ("tp", "fp", "fn", *keys)},
        "over_radius": over,
    }
