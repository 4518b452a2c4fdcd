"""What the figures of a run or an evaluation mean: a verdict in sentences, and every term."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from cellcount_jax.reporting import html

MIN_IMAGES = 10
"""With fewer images, an error cannot be estimated nor a checkpoint chosen."""

SMALL_BIAS = 0.02
"""Share of the mean count below which a bias is not worth a sentence."""

TERMS = {
    r"baseline_mean\w*|mean of the training counts": "what the mean count of the training images, "
    "given for every image, would reach",
    r"baseline_intensity\w*|straight line.*": "what a straight line through the total intensity "
    "of the images would reach",
    r"baseline_histogram\w*|ridge regression.*": "what a regression on intensity histograms "
    "would reach",
    r"n_points_\w+": "the same errors of the number of points, in place of the count",
    r"patch_\w+": "the same errors, of patches in place of whole images",
    "MAE|.*mae": "mean absolute error: by how many cells the count of an image is wrong on average",
    "RMSE|.*rmse": "root of the mean squared error, in cells: large errors weigh more than in MAE",
    "mse": "mean squared error, in squared cells",
    "bias|.*bias": "mean of predicted minus true count, in cells: above 0, it counts too many",
    r"MAPE.*|mape": "mean absolute error in percent of the true count, over images with cells",
    r"95 % from|to|agreement_\w+": "limits of agreement: 95 % of the differences between predicted "
    "and true counts are expected between them",
    r"GAME.*|game_\d": "error summed over the parts of each image: 1, 4, 16 and 64 of them (in a "
    "volume 1, 8, 64 and 512) for levels 0 to 3; it grows where cells are counted in wrong places",
    "images|n_images": "number of images (or patches) that were compared",
    "cells|n_cells": "number of annotated cells in them",
    r"F1|f1|f1_at_\w+": "2 found / (2 found + false + missed): 1 if every cell has a point and no "
    "point is wrong; at a matching radius, if one is named",
    "precision": "share of the points that lie at a cell",
    "recall": "share of the cells that have a point",
    r"F1, mean of images|macro_\w+": "the same, computed for each image and then averaged",
    "found|tp": "cells with a point within the radius, one to one",
    "false|fp": "points without a cell",
    "missed|fn": "cells without a point",
    "radius": "matching radius in pixels: how far a point may lie from its cell",
    "method": "how it counts",
    "stages": "parts of the method, trained one after the other",
    "dataset": "the images",
    "dataset_is_fallback": "whether simulated cells took the place of images that were not found",
    "protocol": "rule by which the images were split",
    "split": "which images the figures are of: train (the weights were fitted to them), validation "
    "(checkpoint and thresholds were chosen by them), test (neither)",
    "split_hash": "equal for equal splits",
    "n_train": "number of images that it was trained on",
    "n_not_cells": "number of places in them that a person marked as not a cell",
    "n_validation": "number of images by which checkpoint and thresholds were chosen",
    "seed": "seed of the random split and of the training",
    "decoder": "how points are found in a map: as its peaks or its connected components",
    "threshold": "height of a peak, or of a component, from which it is a cell",
    "count_scale": "factor by which the sum of the map is multiplied",
    "images_per_second": "speed of counting",
    r"seconds_\w+": "duration of the training",
    "remarks": "reasons not to trust this counter",
    "left_out": "files that could not be used, each with the reason",
    "chosen_step": "step of the training whose weights were taken",
    "device|versions|git": "hardware and software of the run",
    "n_patches": "number of patches that the images were cut into",
    r"(components|peaks)_\w+": "the same where points are connected components, or peaks",
    r"label_\w+": "the same where a point finds a cell if it lies inside the cell's outline",
    r"(random_)?box_purity_\w+|n_boxes_\w+": "share of the boxes of prototypes of cells that hold "
    "a cell, and of those of background that hold none; random: of boxes at random places",
    r"(random_)?coverage": "share of the cells that lie in a box of some prototype of cells",
    r"(random_)?deletion_drop": "share of the count that disappears without these boxes",
    "negative_share": "part of the contributions of prototypes that lowers counts",
    r"(unprojected_)?(squared_)?distance_\w+": "between the prototypes of a group; unprojected: "
    "before they became features of training images",
    "cross_validation": "errors on images counted by counters that had not seen them",
}
"""Meaning of the words and keys on pages, by a pattern that matches them entirely."""


def meaning(term: str) -> str:
    """Explanation of a word or key of a page; empty if there is none."""
    return next((text for words, text in TERMS.items() if re.fullmatch(words, term)), "")


def terms(names: Iterable[str]) -> str:
    """HTML list of what the names mean, those with one meaning together."""
    found: dict[str, list[str]] = {}
    for name in names:
        if text := meaning(name):
            found.setdefault(text, []).append(name)
    return html.definitions((", ".join(same), text) for text, same in found.items())


def verdict(results: Mapping[str, Any]) -> list[str]:
    """What a lab should know about its counter's errors, in a line or two.

    Args:
      results: Content of `results.json`.
    """
    lines = list(results.get("remarks", ()))
    if left_out := results.get("left_out"):
        lines.append(
            f"files left out, each with its reason in results.json: {len(left_out)}, such as "
            f"{left_out[0]['file']}"
        )
    mae, split, n = results.get("mae"), results["split"], results["n_images"]
    if mae is None:
        return lines
    points = "" if results.get("f1") is None else f", F1 {results['f1']:.3f}"
    lines.append(f"{split} split, {n} images: MAE {mae:.1f} cells per image{points}")
    crossed = results.get("cross_validation")
    if crossed is not None:
        found = "" if crossed.get("f1") is None else f", F1 {crossed['f1']:.3f}"
        lines.append(
            f"cross-validation, {crossed['n_images']} images counted by counters that had not "
            f"seen them: MAE {crossed['mae']:.1f}{found}; expect such errors"
        )
    elif split == "train":
        lines.append(
            "these images were trained on: the error on new ones is larger and not known; "
            "--folds 5 estimates it, in five times the time"
        )
    elif n < MIN_IMAGES:
        lines.append(f"{n} images say little: expect larger errors on new ones")
    mean = results.get("baseline_mean_mae")
    if mean is not None and mae >= mean:
        lines.append(
            f"no better than the mean count of the training images (MAE {mean:.1f}): do not use it "
            "yet; check the dots, or annotate more images"
        )
    return lines


def in_words(figures: Mapping[str, Any]) -> list[str]:
    """Sentences on the errors: their size, their direction, and how well cells are found.

    Args:
      figures: Figures of a run or an evaluation, with `mae`, `bias`, `n_images` and `n_cells`.
    """
    if figures.get("mae") is None or not figures.get("n_images"):
        return ["No image could be compared."]
    mean = figures["n_cells"] / figures["n_images"]
    lines = [
        f"An image has {mean:.1f} cells on average, and its count is wrong by "
        f"{figures['mae']:.1f} cells on average."
    ]
    bias = figures["bias"]
    if abs(bias) > SMALL_BIAS * mean:
        lines.append(
            f"It counts {abs(bias):.1f} cells too {'many' if bias > 0 else 'few'} per image: sums "
            "and means over many images have this error, too."
        )
    else:
        lines.append("Errors in both directions nearly cancel in means over many images.")
    if figures.get("f1") is not None:
        lines.append(
            f"Of 100 cells {100 * figures['recall']:.0f} have a point, and of 100 points "
            f"{100 * figures['precision']:.0f} lie at a cell."
        )
    return lines
