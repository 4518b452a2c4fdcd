"""The validation error by which a checkpoint is chosen, and the fit of its readout."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from cellcount_jax.data.sample import Sample
from cellcount_jax.evaluation.evaluate import evaluate
from cellcount_jax.inference.count import Count
from cellcount_jax.inference.counter import Counter
from cellcount_jax.training.readout_fit import fit_readout

WHILE_TRAINING = 40
"""Number of images to calibrate a readout on during training; at the end, all are used."""


def error(
    counter: Counter, samples: Sequence[Sample], train: Sequence[Sample], *, radius: float
) -> tuple[float, dict[str, Any]]:
    """The error to minimise, and the metrics to log.

    The error of a stage whose readout gives points but takes its count from elsewhere is 1 - F1;
    that of a stage that counts is its mean absolute error per sample.
    """
    fitted = with_fitted_readout(counter, samples, train[:WHILE_TRAINING], radius=radius)
    found = evaluate(fitted, samples, radius=radius, details=False)
    keys = ("mae", "bias", "f1")
    values: dict[str, Any] = {k: found.summary[k] for k in keys if k in found.summary}
    if counter.stage.select == "f1":
        return 1.0 - (values["f1"] or 0.0), values
    return found.summary.get("patch_mae", values["mae"]), values


def with_fitted_readout(
    counter: Counter, samples: Sequence[Sample], train: Sequence[Sample], *, radius: float
) -> Counter:
    """The counter with threshold and scale fitted, as far as its readout asks for it.

    Args:
      counter: Counter of the stage that is being trained.
      samples: Samples on which the threshold is chosen, by F1.
      train: Training samples, from which the scale is fitted.
      radius: Matching radius in pixels.
    """
    readout = counter.stage.readout
    if readout.candidates:
        readout = fit_readout(readout, _counts(counter, samples), samples, radius=radius)
    if readout.calibrate:
        true = sum(s.count or 0 for s in train)
        total = sum(c.count for c in _counts(counter, train))
        if true > 0 and total > 0:
            readout = dataclasses.replace(readout, count_scale=readout.count_scale * total / true)
    readout = dataclasses.replace(readout, candidates=(), calibrate=False)
    return dataclasses.replace(counter, stage=dataclasses.replace(counter.stage, readout=readout))


def _counts(counter: Counter, samples: Sequence[Sample]) -> list[Count]:
    return list(counter.without_resampling().count_all(s.image for s in samples))
