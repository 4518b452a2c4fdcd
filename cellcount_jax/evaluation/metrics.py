"""Errors of counts and of points over images; results are finite or None."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

Matches = tuple[int, int, int]
"""True positives, false positives and false negatives."""


def count_errors(predicted: ArrayLike, true: ArrayLike) -> dict[str, Any]:
    """Errors of counts over images.

    Args:
      predicted: Predicted counts [N].
      true: Numbers of dots [N].

    Returns:
      `n`; `mae`; `mse` and its root `rmse`; `bias` = mean of predicted - true; `mape` in percent
      over the images with true > 0; `limits_of_agreement` = [bias - 1.96 sd, bias + 1.96 sd]
      with the sample standard deviation of the differences. Undefined values are None: all
      without images, `mape` if every image is empty, the limits for a single image.

    Raises:
      ValueError: Lengths differ, or a count is not finite.

    Source: Bland and Altman (Lancet 1986) for the limits of agreement.
    """
    counted, real = np.asarray(predicted, np.float64), np.asarray(true, np.float64)
    if counted.shape != real.shape or counted.ndim != 1:
        raise ValueError(f"{counted.shape} predicted counts do not fit {real.shape} true ones")
    for name, values in (("predicted", counted), ("true", real)):
        if not np.isfinite(values).all():
            first = int(np.flatnonzero(~np.isfinite(values))[0])
            raise ValueError(f"the {name} count of image {first} is {values[first]}")
    if not len(real):
        keys = ("mae", "rmse", "mse", "bias", "mape", "limits_of_agreement")
        return {"n": 0, **dict.fromkeys(keys)}
    difference, filled = counted - real, real > 0
    bias, mse = float(difference.mean()), float(np.square(difference).mean())
    limits = None
    if len(real) > 1:
        spread = 1.96 * float(difference.std(ddof=1))
        limits = [bias - spread, bias + spread]
    relative = np.abs(difference[filled]) / real[filled]
    return {
        "n": len(real),
        "mae": float(np.abs(difference).mean()),
        "rmse": float(np.sqrt(mse)),
        "mse": mse,
        "bias": bias,
        "mape": 100 * float(relative.mean()) if filled.any() else None,
        "limits_of_agreement": limits,
    }


def game(predicted: ArrayLike, true: ArrayLike, *, level: int) -> float:
    """Grid average mean absolute error of one image, over 2^level parts per axis.

    Args:
      predicted: Density [H, W] (or one volume [D, H, W]) in cells.
      true: True density of the same shape.
      level: 0 compares the whole image; sides are padded with zeros at the end to multiples of
        2^level.

    Returns:
      Sum of the parts' absolute errors, in cells. Average over images for a test set's figure.

    Raises:
      ValueError: Shapes differ or are not those of one image, or the level is negative.

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
    """`game` of points: each counts in the part that contains its pixel.

    Args:
      predicted: Points [N, ndim] in pixels.
      true: Dots [M, ndim] in pixels.
      shape: Sides of the image.
      level: As in `game`.

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

    All three are 1 if there are neither cells nor predictions. If only one side is empty, the
    undefined ratio (precision without predictions, recall without dots) is 0.

    Args:
      tp: Number of matched cells.
      fp: Number of predictions without a cell.
      fn: Number of cells without a prediction.

    Returns:
      `precision`, `recall` and `f1`.
    """
    perfect = 1.0 if tp + fp + fn == 0 else 0.0
    return {
        "precision": tp / (tp + fp) if tp + fp else perfect,
        "recall": tp / (tp + fn) if tp + fn else perfect,
        "f1": 2 * tp / (2 * tp + fp + fn) if tp + fp + fn else perfect,
    }


def localisation(matches: Sequence[Matches]) -> dict[str, Any]:
    """Localisation accuracy of points over images.

    Args:
      matches: Counts (tp, fp, fn) of each image, from `matching.match_points` or `match_labels`.

    Returns:
      `tp, fp, fn` summed; `precision, recall, f1` of the sums (micro); `macro_precision,
      macro_recall, macro_f1`, means over images, None without any; `n` images.
      See `precision_recall_f1` for empty images.
    """
    tp, fp, fn = (sum(one[i] for one in matches) for i in range(3))
    each = [precision_recall_f1(*one) for one in matches]
    macro = {
        f"macro_{key}": float(np.mean([one[key] for one in each])) if each else None
        for key in ("precision", "recall", "f1")
    }
    sums = {"tp": tp, "fp": fp, "fn": fn}
    return {**sums, **precision_recall_f1(**sums), **macro, "n": len(matches)}
