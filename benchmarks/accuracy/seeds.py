"""Trains a config with several seeds; prints mean and standard deviation of each figure.

    python -m benchmarks.accuracy.seeds --config configs/dcl_vgg.py:quick --seeds 0 1 2
    python -m benchmarks.accuracy.seeds --config configs/density_vgg.py:quick --set data.n_train=10

Each seed is a run of its own in `runs/` (split, initialisation and order of images follow the
seed). Finished runs are not trained again, interrupted ones are resumed.
"""

import argparse
import json
import re
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np

from benchmarks.output import markdown, record

FIGURES = (
    "mae", "rmse", "bias", "patch_mae", "patch_rmse", "f1", "precision", "recall", "n_points_mae",
    "label_f1", "components_f1", "components_mae", "peaks_f1", "peaks_mae", "extractor_mae",
    "unprojected_mae", "projected_mae", "box_purity_cell", "random_box_purity_cell",
    "box_purity_cell_above_chance", "box_purity_background", "random_box_purity_background",
    "box_purity_background_above_chance", "coverage", "random_coverage", "deletion_drop",
    "random_deletion_drop", "negative_share", "unprojected_squared_distance_cell_min",
    "unprojected_squared_distance_background_min", "squared_distance_cell_min",
    "squared_distance_background_min",
    "baseline_mean_mae", "baseline_intensity_mae", "baseline_histogram_mae", "seconds_train",
)  # fmt: skip


MAX_NAME = 200
"""Characters; file systems take 255 bytes."""


def main() -> None:
    """Trains, collects, prints a Markdown table and writes JSON beside the runs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", required=True, help="FILE.py or FILE.py:preset")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--set", nargs="*", default=[], help="config fields, such as radius=4.0")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--record", action="store_true", help="also add to benchmarks/results")
    options = parser.parse_args()
    results = [run(options.config, seed, options.set, options.runs) for seed in options.seeds]
    name = "_".join([run_name(options.config, options.set), "seeds"])
    (options.runs / f"{name}.json").write_text(json.dumps(summary(results), indent=2) + "\n")
    if options.record:
        config = " ".join([options.config, *options.set])
        for found in results:
            hashed = found["split_hash"]
            record("accuracy", found, config=config, seed=found["seed"], split_hash=hashed)
    print(table(results))


def run_name(config: str, fields: list[str]) -> str:
    """Folder name of a config and its changed fields; of very many, a checksum of the rest."""
    path, _, preset = config.partition(":")
    parts = [Path(path).stem, preset, *(re.sub(r"\W", "-", f) for f in fields)]
    name = "_".join(filter(None, parts))
    if len(name) <= MAX_NAME:
        return name
    return f"{name[:MAX_NAME]}_{zlib.crc32(name.encode()):08x}"


def run(config: str, seed: int, fields: list[str], runs: Path) -> dict:
    """Trains one seed in a process of its own; returns its results."""
    workdir = runs / f"{run_name(config, fields)}_seed{seed}"
    flags = [f"--config={config}", f"--workdir={workdir}", f"--config.seed={seed}"]
    flags += [f"--config.{field}" for field in fields]
    subprocess.run([sys.executable, "-m", "cellcount_jax.main", *flags], check=True)
    return json.loads((workdir / "results.json").read_text())


def summary(results: list[dict]) -> dict:
    """Mean and standard deviation of each figure over seeds, and its value for each seed."""
    found: dict = {"seeds": [r["seed"] for r in results], "n": len(results)}
    for key in FIGURES:
        values = [r[key] for r in results if r.get(key) is not None]
        if values:
            spread = float(np.std(values, ddof=1)) if len(values) > 1 else None
            found[key] = {"mean": float(np.mean(values)), "sd": spread, "each": values}
    same = ("method", "dataset", "protocol", "dataset_is_fallback", "device", "versions", "git")
    return found | {key: results[0].get(key) for key in same}


def table(results: list[dict]) -> str:
    """Markdown: a row per figure, a column per seed, mean and standard deviation last."""
    found = summary(results)
    rows = []
    for key in FIGURES:
        if key in found:
            values = [*found[key]["each"], found[key]["mean"], found[key]["sd"]]
            rows.append([key, *("-" if v is None else f"{v:.3f}" for v in values)])
    return markdown(["", *(f"seed {s}" for s in found["seeds"]), "mean", "sd"], rows)


if __name__ == "__main__":
    main()
