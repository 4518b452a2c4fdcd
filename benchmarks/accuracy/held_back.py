"""Judges settings without the test part: counts training images whose labels are not trained on.

    python -m benchmarks.accuracy.held_back --config configs/consistency_vgg.py:quick_supervised
    python -m benchmarks.accuracy.held_back --config configs/density_vgg.py:quick --set seed=1

Where a protocol has few labelled images and none for validation, the training images that serve
without their labels stand in for the test part. Their labels are on the disk; a lab would not have
them, so this is for choosing presets, not for a lab's own thresholds. Runs land in
`runs/held_back_*`, beside the real ones.
"""

import argparse
import ast
import dataclasses
import importlib
from pathlib import Path

from etils import epath
from ml_collections import ConfigDict

from benchmarks.accuracy.seeds import run_name, table
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
    judged = [s for s in source.splits.get("unlabelled", []) if s.dots is not None]
    if not judged:
        raise ValueError(f"{name}: no training images whose labels are held back")
    config.data.protocol = f"{source.protocol}, judged on training images"
    splits = source.splits | {"test": judged}
    source = dataclasses.replace(source, splits=splits, protocol=config.data.protocol)
    workdir = epath.Path(runs / f"held_back_{run_name(name, fields)}_seed{seed}")
    return experiment.train_source(config, workdir, source)


def read_config(name: str, fields: list[str]) -> ConfigDict:
    """The config of `FILE.py:preset` with fields such as `model.base_channels=16` changed."""
    path, _, preset = name.partition(":")
    module = importlib.import_module(".".join(Path(path).with_suffix("").parts))
    config: ConfigDict = module.get_config(preset)
    for field in fields:
        key, _, value = field.partition("=")
        config.update_from_flattened_dict({key: _parse(value)})
    return config


def _parse(text: str) -> object:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


if __name__ == "__main__":
    main()
