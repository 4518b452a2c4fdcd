"""Chooses the decoder and threshold of a readout on labelled images."""

import dataclasses
from collections.abc import Sequence

from cellcount_jax.data.sample import Sample
from cellcount_jax.evaluation.evaluate import decoded_points, point_errors
from cellcount_jax.inference.count import Count
from cellcount_jax.methods.base import Decoder, Readout


def fit_readout(
    readout: Readout, counts: Sequence[Count], samples: Sequence[Sample], *, radius: float
) -> Readout:
    """The readout with the decoder and threshold of highest F1 among its candidates.

    Among a decoder's equally good thresholds the middle one is taken or, with
    `readout.f1_tolerance`, the one with the smallest error in the number of points; among equally
    good decoders, the first.

    Args:
      readout: Readout; returned unchanged if it has no candidates or no map of points.
      counts: Counts of the samples, with their maps.
      samples: Labelled samples.
      radius: Matching radius in pixels.
    """
    if not readout.candidates or readout.points_map is None:
        return readout
    scores, errors = [], []
    for decoder, threshold in readout.candidates:
        found = decoded_points(counts, readout, decoder=decoder, threshold=threshold)
        matched, counted = point_errors(found, samples, radius=radius)
        scores.append(matched["f1"])
        errors.append(counted["mae"])
    best: dict[Decoder, tuple[float, float]] = {}
    for name in dict.fromkeys(decoder for decoder, _ in readout.candidates):
        own = [i for i, (decoder, _) in enumerate(readout.candidates) if decoder == name]
        top = max(scores[i] for i in own)
        level = [i for i in own if scores[i] >= top - readout.f1_tolerance - 1e-12]
        if readout.f1_tolerance:
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
