"""Where the focal weight of a trained network lies: its share near true dots.

    python -m benchmarks.accuracy.focal_share --run runs/WORKDIR --config configs/X.py:preset
    python -m benchmarks.accuracy.focal_share ... --thresholds None 0.1 0.2 0.4 --record

Measured on whole training images whose labels were held back (`benchmarks.accuracy.held_back`).
"""

import argparse
import ast
from collections.abc import Sequence
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from scipy.spatial import cKDTree

from benchmarks.output import markdown, record
from benchmarks.read_config import read_config
from cellcount_jax.data.sample import Sample
from cellcount_jax.inference.counter import Counter
from cellcount_jax.losses import focal_weight
from cellcount_jax.training import run as experiment

MAP = "inverse_distance"


def main() -> None:
    """Prints the share within the config's radius, on the unlabelled images that have dots."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--run", type=Path, required=True, help="folder of a finished run")
    parser.add_argument("--config", required=True, help="FILE.py:preset it was trained with")
    parser.add_argument("--set", nargs="*", default=[], help="config fields")
    parser.add_argument("--images", type=int, default=10)
    parser.add_argument("--thresholds", type=ast.literal_eval, nargs="+", help="of the peaks")
    parser.add_argument("--record", action="store_true", help="also add to benchmarks/results")
    options = parser.parse_args()
    config = read_config(options.config, options.set)
    source = experiment.load_source(config)
    held_back = [s for s in source.splits.get("unlabelled", []) if s.dots is not None]
    thresholds = options.thresholds or [config.consistency.peak_threshold]
    shares = held_back_shares(
        str(options.run), held_back[: options.images], radius=config.radius, thresholds=thresholds
    )
    named = dict(zip(map(str, thresholds), shares, strict=True))
    figures = {"radius": config.radius, "images": options.images, "share": named}
    head = ["peaks above", f"focal weight within {config.radius:g} px of a dot"]
    table = markdown(head, [[name, f"{share:.3f}"] for name, share in named.items()])
    if options.record:
        named_config = " ".join([options.config, *options.set])
        split = source.split_hash
        record("focal_share", figures, config=named_config, seed=config.seed, split_hash=split)
    print(table)


def held_back_shares(
    run: str,
    samples: Sequence[Sample],
    *,
    radius: float,
    thresholds: Sequence[float | None],
) -> list[float]:
    """Share of the focal weight of whole images within `radius` pixels of a dot, per threshold.

    Raises:
      ValueError: No samples.
    """
    if not samples:
        raise ValueError(f"{run}: no images whose labels are held back")
    counter = Counter.load(run).without_resampling()
    sums = np.zeros((len(thresholds), 2))
    for sample, found in zip(samples, counter.count_all(s.image for s in samples), strict=True):
        assert sample.dots is not None
        map = jnp.asarray(found.maps[MAP])[None]
        for row, threshold in enumerate(thresholds):
            weight = np.asarray(focal_weight(map, peak_threshold=threshold))[0]
            near = weight_near_dots(weight, sample.dots, radius=radius)
            sums[row] += near, float(weight.sum())
    return (sums[:, 0] / np.maximum(sums[:, 1], 1e-12)).tolist()


def weight_near_dots(weight: np.ndarray, dots: np.ndarray, *, radius: float) -> float:
    """Sum of a map [*space] over the positions at most `radius` pixels from a dot [N, ndim]."""
    if len(dots) == 0:
        return 0.0
    positions = np.argwhere(weight > 0)
    distance, _ = cKDTree(np.asarray(dots, float)).query(positions)
    return float(weight[tuple(positions[distance <= radius].T)].sum())


if __name__ == "__main__":
    main()
