"""Evaluates a counter on labelled samples."""

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from cellcount_jax.data.sample import Sample
from cellcount_jax.evaluation import metrics
from cellcount_jax.evaluation.image import ImageEvaluation, evaluate_image, spacing_of
from cellcount_jax.evaluation.matching import match_points
from cellcount_jax.evaluation.summary import summarise
from cellcount_jax.inference.count import Count
from cellcount_jax.inference.counter import Counter
from cellcount_jax.inference.detect import Decoder, find_points
from cellcount_jax.methods.base import Readout


class Evaluation(NamedTuple):
    """Evaluation of one counter on labelled samples.

    Attributes:
      samples: Samples that were counted (patches, if images are cut).
      counts: A `Count` for each.
      images: A record for each.
      summary: Flat figures over all, see `summarise`.
      seconds: Duration of counting.
    """

    samples: Sequence[Sample]
    counts: Sequence[Count]
    images: Sequence[ImageEvaluation]
    summary: dict[str, Any]
    seconds: float


def evaluate(
    counter: Counter, samples: Sequence[Sample], *, radius: float, details: bool = True
) -> Evaluation:
    """Counts labelled samples that are resampled already, and compares with their dots.

    Args:
      counter: Trained counter.
      samples: Labelled samples.
      radius: See `evaluate_image`, in pixels of the samples.
      details: See `evaluate_image`.

    Raises:
      ValueError: A sample has no dots.
    """
    missing = [s.name for s in samples if s.dots is None]
    if missing:
        raise ValueError(f"{missing[0]}: no dots to compare with")
    started = time.monotonic()
    counts = list(counter.without_resampling().count_all(s.image for s in samples))
    seconds = time.monotonic() - started
    images = [
        evaluate_image(sample, found, radius=radius, details=details)
        for sample, found in zip(samples, counts, strict=True)
    ]
    return Evaluation(samples, counts, images, summarise(images), seconds)


def decoder_errors(
    counts: Sequence[Count], samples: Sequence[Sample], readout: Readout, *, radius: float
) -> dict[str, Any]:
    """Errors of the points from each fitted decoder of a readout.

    Args:
      counts: Counts of the samples, with their maps, not resampled.
      samples: Labelled samples.
      readout: Fitted readout.
      radius: Matching radius in pixels.

    Returns:
      For each decoder `NAME_threshold, NAME_f1, NAME_precision, NAME_recall, NAME_mae,
      NAME_bias`; empty if there are not at least two.
    """
    errors: dict[str, Any] = {}
    for decoder, threshold in readout.fitted if len(readout.fitted) > 1 else ():
        found = decoded_points(counts, readout, decoder=decoder, threshold=threshold)
        matched, counted = point_errors(found, samples, radius=radius)
        errors |= {f"{decoder}_{key}": matched[key] for key in ("f1", "precision", "recall")}
        errors |= {f"{decoder}_{key}": counted[key] for key in ("mae", "bias")}
        errors[f"{decoder}_threshold"] = threshold
    return errors


def decoded_points(
    counts: Sequence[Count], readout: Readout, *, decoder: Decoder, threshold: float
) -> list[np.ndarray]:
    """Points in each image from a decoder other than the readout's own."""
    assert readout.points_map is not None
    return [
        find_points(
            c.maps[readout.points_map],
            decoder=decoder,
            threshold=threshold,
            single_cell_peak=readout.single_cell_peak,
        )[0]
        for c in counts
    ]


def point_errors(
    found: Sequence[np.ndarray], samples: Sequence[Sample], *, radius: float
) -> tuple[dict[str, Any], dict[str, Any]]:
    """`localisation` of points in labelled samples, and `count_errors` of their numbers."""
    matches, true = [], []
    for points, sample in zip(found, samples, strict=True):
        if sample.dots is None:
            raise ValueError(f"{sample.name}: no dots to compare with")
        matches.append(match_points(points, sample.dots, radius=radius, spacing=spacing_of(sample)))
        true.append(len(sample.dots))
    return metrics.localisation(matches), metrics.count_errors([len(p) for p in found], true)
