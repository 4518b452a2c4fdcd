"""Summarises records of images as the figures of `results.json` and `evaluation.json`."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from cellcount_jax.evaluation import metrics
from cellcount_jax.evaluation.image import (
    GAME_LEVELS,
    MATCH_RADII,
    OK,
    WITHOUT_DOTS,
    ImageEvaluation,
)

RADIUS_FACTORS = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0)
"""Multiples of an image's matching radius that `over_radius` reports."""


def summarise(images: Sequence[ImageEvaluation]) -> dict[str, Any]:
    """Figures over images; numbers are finite or None.

    Args:
      images: Records; only those with status ok are used.

    Returns:
      The figures of `count_figures`; `n_cells`; `game_0` to `game_3`. If the method gives points:
      `n_points_mae, n_points_bias`; `f1, precision, recall, tp, fp, fn` of the sums over all
      images and `macro_...` of their means at the radius; `radius`, the median over images;
      `f1_at_3px`, ...; `label_...` in instance masks; and, where images were matched at
      `RADIUS_FACTORS`, `over_radius`, a list of the same figures at each.
    """
    good = [image for image in images if image.status == OK]
    figures = count_figures(good) | {"n_cells": sum(image.true or 0 for image in good)}
    for i, level in enumerate(GAME_LEVELS):
        values = [image.game[i] for image in good if image.game]
        figures[f"game_{level}"] = float(np.mean(values)) if values else None
    return figures | _point_figures([image for image in good if image.matches])


def count_figures(images: Sequence[ImageEvaluation]) -> dict[str, Any]:
    """Errors of counts.

    Args:
      images: Records with status ok; patches are summed over their image.

    Returns:
      `n_images, mae, rmse, mse, bias, mape, agreement_low, agreement_high` over images and, if
      they are cut, `patch_mae, patch_rmse, patch_bias, n_patches`.
    """
    predicted = np.array([image.predicted for image in images], float)
    true = np.array([image.true for image in images], float)
    figures = metrics.count_errors(_per_image(images, predicted), _per_image(images, true))
    figures["n_images"] = figures.pop("n")
    low, high = figures.pop("limits_of_agreement") or (None, None)
    figures |= {"agreement_low": low, "agreement_high": high}
    if _is_cut(images):
        patches = metrics.count_errors(predicted, true)
        figures |= {f"patch_{key}": patches[key] for key in ("mae", "rmse", "bias")}
        figures["n_patches"] = len(images)
    return figures


def _is_cut(images: Sequence[ImageEvaluation]) -> bool:
    """Whether these are patches of images (see `data.patches.cut`)."""
    return any(i.group != i.name and i.name.startswith(f"{i.group}@") for i in images)


def _per_image(images: Sequence[ImageEvaluation], values: np.ndarray) -> np.ndarray:
    """Sums over the patches of each image, in order of first appearance."""
    if not _is_cut(images):
        return values
    sums = dict.fromkeys((image.group for image in images), 0.0)
    for image, value in zip(images, values, strict=True):
        sums[image.group] += value
    return np.array(list(sums.values()))


def _point_figures(images: Sequence[ImageEvaluation]) -> dict[str, Any]:
    """Figures of points; empty without points."""
    if not images:
        return {}
    found, true = (
        _per_image(images, np.array([getattr(image, name) for image in images], float))
        for name in ("n_points", "true")
    )
    number, own = metrics.count_errors(found, true), _localisation(images, factor=1.0)
    figures = {
        "n_points_mae": number["mae"],
        "n_points_bias": number["bias"],
        **{key: value for key, value in own.items() if key != "n"},
        "radius": float(np.median([image.radius for image in images])),
    }
    for radius in MATCH_RADII:
        if all(radius in image.matches for image in images):
            near = metrics.localisation([image.matches[radius] for image in images])
            figures[f"f1_at_{radius:g}px"] = near["f1"]
    labelled = [i.label_matches for i in images if i.label_matches is not None]
    if len(labelled) == len(images):
        in_labels = metrics.localisation(labelled)
        keys = ("f1", "precision", "recall", "macro_f1")
        figures |= {f"label_{key}": in_labels[key] for key in keys}
    if all(i.radius * factor in i.matches for i in images for factor in RADIUS_FACTORS):
        figures["over_radius"] = [
            {"factor": factor, **_localisation(images, factor=factor)} for factor in RADIUS_FACTORS
        ]
    return figures


def _localisation(images: Sequence[ImageEvaluation], *, factor: float) -> dict[str, Any]:
    """`localisation` at a multiple of each image's radius."""
    return metrics.localisation([image.matches[image.radius * factor] for image in images])


def summarise_folder(images: Sequence[ImageEvaluation]) -> dict[str, Any]:
    """Figures of a lab's folder: over all images, each group and each region.

    Returns:
      `summarise` of the whole images with `n_failed` and `n_without_dots`; `groups`, group -> the
      same; `regions`, region -> the same, if there are any.

    Raises:
      ValueError: No image could be compared.
    """
    whole = [image for image in images if not image.roi]
    found = _with_failures(whole)
    if not found["n_images"]:
        why = next((i.status for i in whole if i.status.startswith("error")), WITHOUT_DOTS)
        raise ValueError(f"no image could be compared; the first: {why.removeprefix('error: ')}")
    groups = sorted({image.group for image in whole} - {""})
    found["groups"] = {n: _with_failures([i for i in whole if i.group == n]) for n in groups}
    regions = list(dict.fromkeys(image.roi for image in images if image.roi))
    if regions:
        found["regions"] = {n: _with_failures([i for i in images if i.roi == n]) for n in regions}
    return found


def _with_failures(images: Sequence[ImageEvaluation]) -> dict[str, Any]:
    return summarise(images) | {
        "n_failed": sum(image.status.startswith("error") for image in images),
        "n_without_dots": sum(image.status == WITHOUT_DOTS for image in images),
    }
