"""Compares settings without the test split: evaluates on training images that keep no labels.

    python -m benchmarks.accuracy.held_back --config configs/consistency_vgg.py:quick_supervised
    python -m benchmarks.accuracy.held_back --config configs/density_vgg.py:quick --set seed=1

Where a protocol has few labelled images and none for validation, the training images that are used
without their labels replace the test split. Their labels are on disk; a lab would not have them, so
this is for choosing presets, not a lab's own thresholds. Runs are written to `runs/held_back_*`.
"""

import argparse
import dataclasses
from pathlib import Path

from etils import epath

from benchmarks.accuracy.seeds import run_name, table
from benchmarks.read_config import read_config
from cellcount_jax.runtime.setup import configure_process
from cellcount_jax.training import run as experiment


def main() -> None:
    """One run per seed; prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", required=True, help="FILE.py or FILE.py:preset")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--set", nargs="*", default=[], help="config fields, such as radius=4.0")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    options = parser.parse_args()
    configure_process()
    results = [run(options.config, seed, options.set, options.runs) for seed in options.seeds]
    print(table(results))


def run(name: str, seed: int, fields: list[str], runs: Path) -> dict:
    """Results of one seed on the unlabelled training images, which do have labels here."""
    config = read_config(name, [*fields, f"seed={seed}"])
    source = experiment.load_source(config)
    held_back = [s for s in source.splits.get("unlabelled", []) if s.dots is not None]
    if not held_back:
        raise ValueError(f"{name}: no training images whose labels are held back")
    config.data.protocol = f"{source.protocol}, evaluated on training images"
    splits = source.splits | {"test": held_back}
    source = dataclasses.replace(source, splits=splits, protocol=config.data.protocol)
    workdir = epath.Path(runs / f"held_back_{run_name(name, fields)}_seed{seed}")
    return experiment.train_source(config, workdir, source)


if __name__ == "__main__":
    main()
