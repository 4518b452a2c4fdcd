"""A counter against the truth: errors per patch and per image, localisation, its readout."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from cellcount_jax.data.sample import Sample
from cellcount_jax.evaluation import baselines, metrics
from cellcount_jax.evaluation.localisation import spacing_of
from cellcount_jax.inference import detect as decode
from cellcount_jax.inference.counter import Count, Counter
from cellcount_jax.methods.base import Decoder, Readout

RADII = (3.0, 5.0, 8.0)
"""Matching radii in pixels that are reported beside the chosen one."""


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Results of one counter on one part of a split.

    Attributes:
      samples: what was counted (patches, where images are cut).
      counts: a `Count` for each.
      summary: flat numbers for `results.json`.
    """

    samples: Sequence[Sample]
    counts: Sequence[Count]
    summary: dict[str, Any]


def evaluate(counter: Counter, samples: Sequence[Sample], *, radius: float) -> Evaluation:
    """Counts labelled samples and compares.

    Args:
      counter: trained.
      samples: labelled; those of one `group` are patches of one image if they were cut.
      radius: matching radius in pixels of the samples (of the last axis, if all are volumes of one
        known spacing, by which distances are then measured).

    Returns:
      Counts, and errors per image (`mae`, ...), per patch (`patch_mae`, ...) and, if the method
      gives points, `f1`, `precision`, `recall`, `n_points_mae`.
    """
    counts = list(counter.at_own_scale().count_all(s.image for s in samples))
    predicted = np.array([c.count for c in counts])
    true = np.array([s.count for s in samples], float)
    summary = _by_image(samples, predicted, true)
    found = [c.points for c in counts if c.points is not None]
    if len(found) == len(counts):
        dots, spacing = _dots(samples), spacing_of(samples)
        chosen = metrics.localisation(found, dots, radius=radius, spacing=spacing)
        summary |= {**_flat(chosen), "radius": radius}
        for other in RADII:
            near = metrics.localisation(found, dots, radius=other, spacing=spacing)
            summary[f"f1_at_{other:g}px"] = near["f1"]
        number = np.array([float(len(p)) for p in found])
        errors = metrics.count_errors(_per_image(samples, number), _per_image(samples, true))
        summary |= {"n_points_mae": errors["mae"], "n_points_bias": errors["bias"]}
    return Evaluation(samples, counts, summary)


def _dots(samples: Sequence[Sample]) -> list[np.ndarray]:
    """Dots of labelled samples.

    Raises:
      ValueError: a sample has none.
    """
    missing = [s.name for s in samples if s.dots is None]
    if missing:
        raise ValueError(f"{missing[0]}: no dots to compare with")
    return [s.dots for s in samples if s.dots is not None]


def _flat(localisation: dict[str, Any]) -> dict[str, Any]:
    keys = ("f1", "precision", "recall", "macro_f1")
    return {key: localisation[key] for key in keys if key in localisation}


def is_cut(samples: Sequence[Sample]) -> bool:
    """Whether the samples are patches of images (see `data.patches.cut`)."""
    return any(s.group != s.name and s.name.startswith(f"{s.group}@") for s in samples)


def _per_image(samples: Sequence[Sample], values: np.ndarray) -> np.ndarray:
    """Sums over the patches of each image, in order of first appearance."""
    if not is_cut(samples):
        return values
    names = list(dict.fromkeys(s.group for s in samples))
    index = [names.index(s.group) for s in samples]
    return np.bincount(index, weights=values, minlength=len(names))


def _by_image(samples: Sequence[Sample], predicted: np.ndarray, true: np.ndarray) -> dict[str, Any]:
    summary = dict(metrics.count_errors(_per_image(samples, predicted), _per_image(samples, true)))
    summary["n_images"] = summary.pop("n")
    low, high = summary.pop("limits_of_agreement") or (None, None)
    summary |= {"agreement_low": low, "agreement_high": high}
    if is_cut(samples):
        patches = metrics.count_errors(predicted, true)
        summary |= {"patch_mae": patches["mae"], "patch_rmse": patches["rmse"]}
        summary |= {"patch_bias": patches["bias"], "n_patches": len(samples)}
    return summary


def baseline_errors(train: Sequence[Sample], test: Sequence[Sample]) -> dict[str, float]:
    """Errors of counters that never look for a cell, fitted on `train`, on the same `test`."""
    images = {"train": [s.image for s in train], "test": [s.image for s in test]}
    counts = np.array([s.count for s in train], float)
    true = np.array([s.count for s in test], float)
    predictions = {
        "mean": baselines.baseline_mean(counts, len(test)),
        "intensity": baselines.baseline_intensity(images["train"], counts, images["test"]),
        "histogram": baselines.baseline_histogram(images["train"], counts, images["test"]),
    }
    errors = {}
    for name, predicted in predictions.items():
        found = _by_image(test, np.asarray(predicted), true)
        errors[f"baseline_{name}_mae"] = found["mae"]
        if "patch_mae" in found:
            errors[f"baseline_{name}_patch_mae"] = found["patch_mae"]
    return errors


def fit_readout(
    readout: Readout, counts: Sequence[Count], samples: Sequence[Sample], *, radius: float
) -> Readout:
    """The readout with the decoder and threshold of the highest F1 among its candidates.

    Of a decoder's best thresholds the middle one is taken, or by `readout.tolerance` the one with
    the least error of the number of points; of equally good decoders the first.
    """
    if not readout.candidates or readout.points_map is None:
        return readout
    dots, spacing = _dots(samples), spacing_of(samples)
    scores, errors = [], []
    for decoder, threshold in readout.candidates:
        found = [
            decode.find_points(
                c.maps[readout.points_map],
                decoder=decoder,
                threshold=threshold,
                reference=readout.reference,
            )[0]
            for c in counts
        ]
        matched = metrics.localisation(found, dots, radius=radius, spacing=spacing)
        scores.append(matched["f1"] or 0.0)
        errors.append(sum(abs(len(p) - len(d)) for p, d in zip(found, dots, strict=True)))
    best: dict[Decoder, tuple[float, float]] = {}
    for name in dict.fromkeys(decoder for decoder, _ in readout.candidates):
        own = [i for i, (decoder, _) in enumerate(readout.candidates) if decoder == name]
        top = max(scores[i] for i in own)
        level = [i for i in own if scores[i] >= top - readout.tolerance - 1e-12]
        if readout.tolerance:
            least = min(errors[i] for i in level)
            level = [i for i in level if errors[i] == least]
        best[name] = (top, readout.candidates[level[len(level) // 2]][1])
    chosen = max(best, key=lambda name: best[name][0])
    return dataclasses.replace(
        readout,
        count=chosen if readout.count in ("components", "peaks") else readout.count,
        decoder=chosen,
        threshold=best[chosen][1],
        fitted=tuple((name, threshold) for name, (_, threshold) in best.items()),
    )
