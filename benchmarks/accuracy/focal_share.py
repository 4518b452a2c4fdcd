"""Where the focal weight of a trained network lies: its share near true dots.

python -m benchmarks.accuracy.focal_share --run runs/WORKDIR --config configs/X.py:preset
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict
from scipy.spatial import cKDTree

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
    options = parser.parse_args()
    config = read_config(options.config, options.set)
    source = experiment.load_source(config)
    held_back = [s for s in source.splits.get("unlabelled", []) if s.dots is not None]
    share = held_back_share(str(options.run), held_back[: options.images], config)
    print(f"share of the focal weight within {config.radius} px of a dot: {share:.3f}")


def held_back_share(run: str, samples: Sequence[Sample], config: ConfigDict) -> float:
    """Share of the focal weight of whole images within `config.radius` pixels of a dot.

    Raises:
      ValueError: No samples.
    """
    if not samples:
        raise ValueError(f"{run}: no images whose labels are held back")
    counter = Counter.load(run).without_resampling()
    near = total = 0.0
    for sample in samples:
        map = counter.count(sample.image).maps[MAP]
        weight = np.asarray(
            focal_weight(jnp.asarray(map)[None], peak_threshold=config.consistency.peak_threshold)
        )[0]
        assert sample.dots is not None
        near += weight_near_dots(weight, sample.dots, radius=config.radius)
        total += float(weight.sum())
    return near / max(total, 1e-12)


def weight_near_dots(weight: np.ndarray, dots: np.ndarray, *, radius: float) -> float:
    """Sum of a map [*space] over the positions at most `radius` pixels from a dot [N, ndim]."""
    if len(dots) == 0:
        return 0.0
    positions = np.argwhere(weight > 0)
    distance, _ = cKDTree(np.asarray(dots, float)).query(positions)
    return float(weight[tuple(positions[distance <= radius].T)].sum())


if __name__ == "__main__":
    main()
