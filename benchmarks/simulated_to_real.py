"""Trains the default counter on simulated cells alone and counts the real VGG test pictures.

    python -m benchmarks.simulated_to_real --seeds 0 1 2

The settings are those of `configs/density_vgg.py:quick`; simulated pictures train and validate, the
test part of protocol `half` is the one that counters trained on real pictures are measured on.
"""

import argparse
import dataclasses
from pathlib import Path

from etils import epath

from benchmarks.accuracy import table
from cellcount_jax.data import simulate
from cellcount_jax.runtime import compilation, logs
from cellcount_jax.training import experiment
from configs import density_vgg


def main() -> None:
    """One run per seed; prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--pictures", type=int, default=100)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    options = parser.parse_args()
    logs.setup()
    compilation.use_cache()
    print(table([run(seed, options.pictures, options.runs) for seed in options.seeds]))


def run(seed: int, pictures: int, runs: Path) -> dict:
    """Results of one seed on the real test part."""
    config = density_vgg.get_config("quick")
    config.seed = seed
    real = experiment.load_source(config)
    config.data.protocol = f"{pictures} simulated pictures, tested on half"
    made = list(simulate.simulate_dataset(seed, pictures, preset="vgg"))
    kept = max(2, pictures // 10)
    splits = {"train": made[kept:], "validation": made[:kept], "test": real.splits["test"]}
    source = dataclasses.replace(real, splits=splits, protocol=config.data.protocol)
    workdir = epath.Path(runs / f"density_simulated_to_real_{pictures}_seed{seed}")
    return experiment.train_source(config, workdir, source)


if __name__ == "__main__":
    main()
