"""Errors of counts and of points. Sums first, so that parts of a test set merge exactly.

Every `*_sums` function returns a flat dict of numbers; two dicts merge by adding each entry
(`merge_sums`), on one host or many; the matching `*_of_sums` function turns them into results,
which are finite or None.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from cellcount_jax.evaluation.matching import match_points

Sums = dict[str, float]


def merge_sums(*parts: Mapping[str, float]) -> Sums:
    """Adds dicts of sums entry by entry."""
    return {key: sum(part[key] for part in parts) for key in parts[0]}


def count_errors(predicted: ArrayLike, true: ArrayLike) -> dict[str, Any]:
    """Errors of counts over images.

    Args:
      predicted: [N] counts.
      true: [N] numbers of dots.

    Returns:
      `n`; `mae`; `mse` and its root `rmse`; `bias` = mean of predicted - true; `mape` in percent
      over the images with true > 0; `limits_of_agreement` = [bias - 1.96 sd, bias + 1.96 sd]
      with the sample standard deviation of the differences. What is not defined is None: all of
      them without images, `mape` where every image is empty, the limits of one image.

    Raises:
      ValueError: lengths differ, or a count is not a finite number.

    Source: Bland and Altman (Lancet 1986) for the limits of agreement.
    """
    return errors_of_sums(error_sums(predicted, true))


def error_sums(predicted: ArrayLike, true: ArrayLike) -> Sums:
    """Sums that `errors_of_sums` takes: n, differences, their squares, relative ones."""
    counted, real = np.asarray(predicted, np.float64), np.asarray(true, np.float64)
    if counted.shape != real.shape or counted.ndim != 1:
        raise ValueError(f"{counted.shape} predicted counts do not fit {real.shape} true ones")
    for name, values in (("predicted", counted), ("true", real)):
        if not np.isfinite(values).all():
            first = int(np.flatnonzero(~np.isfinite(values))[0])
            raise ValueError(f"the {name} count of image {first} is {values[first]}")
    difference = counted - real
    filled = real > 0
    return {
        "n": len(real),
        "difference": float(difference.sum()),
        "absolute": float(np.abs(difference).sum()),
        "squared": float(np.square(difference).sum()),
        "n_filled": int(filled.sum()),
        "relative": float((np.abs(difference[filled]) / real[filled]).sum()),
    }


def errors_of_sums(sums: Mapping[str, float]) -> dict[str, Any]:
    """Results of `count_errors` from sums of `error_sums`."""
    n = int(sums["n"])
    if n == 0:
        keys = ("mae", "rmse", "mse", "bias", "mape", "limits_of_agreement")
        return {"n": 0, **dict.fromkeys(keys)}
    bias, mse = sums["difference"] / n, sums["squared"] / n
    limits = None
    if n > 1:
        # Rounding may leave a tiny negative number where all differences are equal.
        spread = 1.96 * float(np.sqrt(max(0.0, (mse - bias**2) * n / (n - 1))))
        limits = [bias - spread, bias + spread]
    return {
        "n": n,
        "mae": sums["absolute"] / n,
        "rmse": float(np.sqrt(mse)),
        "mse": mse,
        "bias": bias,
        "mape": 100 * sums["relative"] / sums["n_filled"] if sums["n_filled"] else None,
        "limits_of_agreement": limits,
    }


def game(predicted: ArrayLike, true: ArrayLike, *, level: int) -> float:
    """Grid average mean error of one image: absolute count errors of 2^level parts per axis.

    Args:
      predicted: [H, W] (or one volume [D, H, W]) density in cells.
      true: the same shape.
      level: 0 compares the whole image; sides are padded with zeros, behind, to multiples of
        2^level.

    Returns:
      Sum of the parts' absolute errors, in cells. Average over images for a test set's figure.

    Raises:
      ValueError: shapes differ or are not those of one image, or the level is negative.

    Source: Guerrero-Gomez-Olmedo et al. (IbPRIA 2015).
    """
    density, truth = np.asarray(predicted, np.float64), np.asarray(true, np.float64)
    if density.shape != truth.shape or density.ndim not in (2, 3):
        raise ValueError(
            f"maps of shape {density.shape} and {truth.shape}: one image's [H, W] each is needed"
        )
    parts = _parts(level)
    difference = density - truth
    sides = [-(-n // parts) for n in difference.shape]
    padding = [(0, s * parts - n) for s, n in zip(sides, difference.shape, strict=True)]
    blocks = [size for side in sides for size in (parts, side)]
    errors = np.pad(difference, padding).reshape(blocks).sum(axis=tuple(range(1, len(blocks), 2)))
    return float(np.abs(errors).sum())


def game_points(
    predicted: ArrayLike, true: ArrayLike, shape: Sequence[int], *, level: int
) -> float:
    """`game` on points: each counts in the part its pixel lies in.

    Args:
      predicted: [N, ndim] pixels.
      true: [M, ndim] pixels.
      shape: sides of the image.
      level: as in `game`.

    Returns:
      Sum of the parts' absolute errors, in cells.
    """
    parts = _parts(level)
    sides = np.array([-(-n // parts) for n in shape])
    maps = []
    for points in (predicted, true):
        at = np.asarray(points, np.float64).reshape(-1, len(shape))
        pixels = np.clip(np.floor(at + 0.5), 0, np.asarray(shape) - 1).astype(np.int64)
        flat = np.ravel_multi_index(tuple((pixels // sides).T), (parts,) * len(shape))
        maps.append(np.bincount(flat, minlength=parts ** len(shape)))
    return float(np.abs(maps[0] - maps[1]).sum())


def _parts(level: int) -> int:
    if level < 0:
        raise ValueError(f"GAME level {level}: it must be 0 or more")
    return 2**level


def precision_recall_f1(tp: int, fp: int, fn: int) -> dict[str, float]:
    """Precision, recall and F1; always finite.

    Where nothing was there and nothing was found all three are 1. Where only one side is empty,
    its undefined ratio (precision without predictions, recall without dots) is 0.
    """
    perfect = 1.0 if tp + fp + fn == 0 else 0.0
    return {
        "precision": tp / (tp + fp) if tp + fp else perfect,
        "recall": tp / (tp + fn) if tp + fn else perfect,
        "f1": 2 * tp / (2 * tp + fp + fn) if tp + fp + fn else perfect,
    }


def localisation(
    predicted: Sequence[ArrayLike],
    true: Sequence[ArrayLike],
    *,
    radius: float,
    spacing: Sequence[float] | None = None,
) -> dict[str, Any]:
    """How well points meet dots over images.

    Args:
      predicted: per image [N, ndim] pixels.
      true: per image [M, ndim] pixels.
      radius: of `matching.match_points`.
      spacing: of `matching.match_points`.

    Returns:
      `tp, fp, fn` summed; `precision, recall, f1` of the sums (micro); `macro_precision,
      macro_recall, macro_f1`, means over images, None without any; `n` images; `radius`.
      See `precision_recall_f1` for empty images.

    Raises:
      ValueError: not as many images predicted as true.
    """
    sums = localisation_sums(predicted, true, radius=radius, spacing=spacing)
    return {**localisation_of_sums(sums), "radius": radius}


def localisation_sums(
    predicted: Sequence[ArrayLike],
    true: Sequence[ArrayLike],
    *,
    radius: float,
    spacing: Sequence[float] | None = None,
) -> Sums:
    """Sums that `localisation_of_sums` takes."""
    pairs = zip(predicted, true, strict=True)
    return label_sums([match_points(p, t, radius=radius, spacing=spacing) for p, t in pairs])


def label_sums(results: Sequence[tuple[int, int, int]]) -> Sums:
    """Sums that `localisation_of_sums` takes, from (tp, fp, fn) per image of any matching."""
    ratios = [precision_recall_f1(*one) for one in results]
    return {
        "n": len(results),
        **{name: sum(one[i] for one in results) for i, name in enumerate(("tp", "fp", "fn"))},
        **{key: float(sum(r[key] for r in ratios)) for key in ("precision", "recall", "f1")},
    }


def localisation_of_sums(sums: Mapping[str, float]) -> dict[str, Any]:
    """Results of `localisation` from its sums."""
    n = int(sums["n"])
    counts = {key: int(sums[key]) for key in ("tp", "fp", "fn")}
    keys = ("precision", "recall", "f1")
    macro = {f"macro_{key}": sums[key] / n if n else None for key in keys}
    return {**counts, **precision_recall_f1(**counts), **macro, "n": n}
