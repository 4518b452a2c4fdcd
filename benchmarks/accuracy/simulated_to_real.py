"""Trains the default counter on simulated cells only and evaluates it on the VGG test images.

    python -m benchmarks.accuracy.simulated_to_real --seeds 0 1 2

The settings are those of `configs/density_vgg.py:quick`. Simulated images train and validate; the
test split of protocol `half` is that of the counters trained on real images.
"""

import argparse
import dataclasses
from pathlib import Path

from etils import epath

from benchmarks.accuracy.seeds import table
from cellcount_jax.runtime.setup import configure_process
from cellcount_jax.simulation import simulate
from cellcount_jax.training import run as experiment
from configs import density_vgg


def main() -> None:
    """One run per seed; prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    options = parser.parse_args()
    configure_process()
    print(table([run(seed, options.images, options.runs) for seed in options.seeds]))


def run(seed: int, images: int, runs: Path) -> dict:
    """Results of one seed on the real test split."""
    config = density_vgg.get_config("quick")
    config.seed = seed
    real = experiment.load_source(config)
    config.data.protocol = f"{images} simulated images, tested on half"
    made = list(simulate.simulate_dataset(seed, images, preset="vgg"))
    kept = max(2, images // 10)
    splits = {"train": made[kept:], "validation": made[:kept], "test": real.splits["test"]}
    source = dataclasses.replace(real, splits=splits, protocol=config.data.protocol)
    workdir = epath.Path(runs / f"density_simulated_to_real_{images}_seed{seed}")
    return experiment.train_source(config, workdir, source)


if __name__ == "__main__":
    main()
