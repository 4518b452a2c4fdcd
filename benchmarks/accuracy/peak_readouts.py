"""Effect of test-time augmentation and unsharp peaks on a trained network's points.

    python -m benchmarks.accuracy.peak_readouts runs/consistency_vgg_quick_supervised_seed0

No training: the maps of a finished run of focal consistency are decoded in several ways. Decoder
and threshold are fitted on its labelled training images, as in training; the table is for training
images whose labels were not used (see `held_back`), so that the test split is not touched.
"""

import argparse
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from benchmarks.output import markdown
from cellcount_jax import defaults, short_trainings
from cellcount_jax.data.sample import Sample
from cellcount_jax.evaluation.evaluate import point_errors
from cellcount_jax.inference.count import Count
from cellcount_jax.inference.counter import Counter
from cellcount_jax.inference.readout import read_out
from cellcount_jax.methods import build_stages, consistency, postprocess
from cellcount_jax.methods.base import Readout
from cellcount_jax.training import run
from cellcount_jax.training.readout_fit import fit_readout

BLURS = (None, 0.6, 1.0)
"""Standard deviations in pixels of the blur that unsharp peaks rise above; None for plain maps."""


def main() -> None:
    """Prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--images", type=int, default=24, help="number of held-back images")
    options = parser.parse_args()
    counter = Counter.load(options.run)
    config = ConfigDict(counter.facts["config"])
    source = run.load_source(config)
    train = source.splits["train"]
    held_back = [s for s in source.splits["unlabelled"] if s.dots is not None][: options.images]
    rows = []
    for views in (False, True):
        maps = [_maps(counter, config, samples, views=views) for samples in (train, held_back)]
        for blur in BLURS:
            for tolerance in (0.0, 0.003):
                readout = _readout(config, views=views, blur=blur, tolerance=tolerance)
                given, found = ([_sharpened(m, config, blur) for m in each] for each in maps)
                readout = fit_readout(readout, given, train, radius=config.radius)
                row = _row([read_out(c.maps, readout) for c in found], held_back, config.radius)
                share = readout.threshold
                if readout.decoder == "components" and readout.single_cell_peak:
                    share /= readout.single_cell_peak
                words = ["all" if views else "one", str(blur or "-"), readout.decoder]
                words[1] += ", by number" if tolerance else ""
                rows.append([*words, f"{share:.3g}", *row])
    print(f"fitted on {len(train)} labelled images, evaluated on {len(held_back)} others\n")
    head = ["views", "blur", "decoder", "share", "F1", "precision", "recall", "MAE by points"]
    print(markdown([*head, "bias"], rows))


def _model(config: ConfigDict, **fields: object) -> ConfigDict:
    changed = ConfigDict(config.to_dict())
    with changed.unlocked():
        changed.model.update(fields)
    return changed


def _maps(
    counter: Counter, config: ConfigDict, samples: Sequence[Sample], *, views: bool
) -> list[np.ndarray]:
    """The map of each image, not sharpened."""
    (stage,) = build_stages(_model(config, test_time_augmentation=views, unsharp_sigma=None))
    plain = dataclasses.replace(counter, stage=stage, predict=None).without_resampling()
    name = stage.readout.points_map
    assert name is not None
    images: Iterator[Count] = plain.count_all(s.image for s in samples)
    return [c.maps[name] for c in images]


def _readout(config: ConfigDict, *, views: bool, blur: float | None, tolerance: float) -> Readout:
    thresholds = short_trainings.UNSHARP_THRESHOLDS if blur else defaults.DECODER_THRESHOLDS
    fields = {
        "test_time_augmentation": views,
        "unsharp_sigma": blur,
        "f1_tolerance": tolerance,
        "thresholds": thresholds,
    }
    return build_stages(_model(config, **fields))[0].readout


def _sharpened(map: np.ndarray, config: ConfigDict, blur: float | None) -> Count:
    """The maps that a counter with this blur would decode."""
    name = consistency.MAP_NAMES[config.model.target]
    maps = {name: map}
    sigma = consistency.unsharp_sigma(_model(config, unsharp_sigma=blur).model)
    if sigma:
        sharp = postprocess.unsharp_peaks(jnp.asarray(map)[None], sigma=sigma)[0]
        maps[consistency.UNSHARP_MAP] = np.asarray(sharp)
    return Count(0.0, None, None, None, maps)


def _row(counts: Sequence[Count], samples: Sequence[Sample], radius: float) -> list[str]:
    found = [c.points for c in counts if c.points is not None]
    matched, errors = point_errors(found, samples, radius=radius)
    shares = [f"{matched[key]:.3f}" for key in ("f1", "precision", "recall")]
    return [*shares, *(f"{errors[key]:.2f}" for key in ("mae", "bias"))]


if __name__ == "__main__":
    main()
