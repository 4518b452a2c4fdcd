"""Label curve of focal consistency: 1, 2, 4, 8, 16 labelled images, with and without unlabelled.

    nice python -m benchmarks.accuracy.label_curve --sets vgg --labels 1 2 --seeds 0 1 2 --record
    python -m benchmarks.accuracy.label_curve --sets vgg --held-back --set consistency.weight=3
    python -m benchmarks.accuracy.label_curve --sets vgg --labels 1 2 4 8 16 --table

A seed chooses the labelled images; the two runs of a pair share these and the initial weights, and
differ by the unlabelled images alone. All sets and numbers of labels share one preset, `few`.
Settings are compared on training images whose labels were held back (`--held-back`). Finished runs
are not trained again, interrupted ones are resumed; `--record` adds a line per run to
`benchmarks/results/label_curve.jsonl`. The table gives the mean of the paired differences and its
95 % interval (Student's t).
"""

import argparse
import functools
import hashlib
import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from etils import epath
from scipy import stats

from benchmarks import output
from benchmarks.accuracy.focal_share import held_back_shares
from benchmarks.accuracy.seeds import run_name
from benchmarks.accuracy.ten_images.sets import read_half
from benchmarks.output import RESULTS, markdown, record
from benchmarks.read_config import read_config
from cellcount_jax.data.resampling import Resampling
from cellcount_jax.data.sample import Sample
from cellcount_jax.datasets import load
from cellcount_jax.runtime.setup import configure_process
from cellcount_jax.training import run as experiment

VARIANTS = ("supervised", "unlabelled")

HELD_BACK = 40
"""Training images that stand in for the test images with `--held-back`."""

SHARE_IMAGES = 10
"""Held-back images over which the share of the focal weight near dots is measured."""

Result = Mapping[str, Any]


class CurveSet(NamedTuple):
    """A data set of the curve.

    Attributes:
      config: Path of the config, without a preset.
      half: Name in `ten_images.sets`, whose half A trains and half B tests; None: the division of
        protocol `consistency`.
      radius: Matching radius in pixels after resampling.
      factor: Factor by which images are resized.
    """

    config: str
    half: str | None
    radius: float
    factor: float = 1.0


SETS = {
    "vgg": CurveSet("configs/consistency_folder.py", None, 5.0),
    "dsb2018": CurveSet("configs/consistency_folder.py", "dsb2018_256", 6.5),
    "usiigaci": CurveSet("configs/consistency_folder.py", "usiigaci", 6.0, 0.25),
    "bbbc050": CurveSet("configs/consistency_bbbc050.py", "bbbc050", 4.0),
}
"""Radii are half the median true diameter of a cell."""


def main() -> None:
    """Trains what is missing, in the order of labels, then seeds; prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sets", nargs="+", choices=SETS, default=["vgg"])
    parser.add_argument("--labels", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--set", nargs="*", default=[], help="config fields, for every run")
    parser.add_argument("--held-back", action="store_true", help="evaluate on training images")
    parser.add_argument("--record", action="store_true", help="add runs to benchmarks/results")
    parser.add_argument(
        "--table", action="store_true", help="print the recorded runs of the preset's own settings"
    )
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    options = parser.parse_args()
    if options.table:
        print(table(found for found in recorded() if not found["fields"]))
        return
    configure_process()
    done = []
    for n in options.labels:
        for seed in options.seeds:
            for name in options.sets:
                for variant in VARIANTS:
                    found = run(name, n, seed, variant, options)
                    done.append(found)
                    print(json.dumps(found), flush=True)
                    if options.record and not options.held_back:
                        record_once(found)
    print(table(done))


def run(name: str, n: int, seed: int, variant: str, options: argparse.Namespace) -> dict[str, Any]:
    """Figures of one run, trained if it is not yet."""
    chosen = SETS[name]
    preset = "few" if variant == "unlabelled" else "few_supervised"
    config = read_config(f"{chosen.config}:{preset}", [*options.set, f"seed={seed}"])
    config.radius = chosen.radius
    config.data.name = config.data.folder = None
    config.data.protocol = f"label curve of {name}, {n} labelled"
    train, test = pool(chosen, config.data.voxel_size)
    source = divided(name, train, test, n=n, seed=seed, held_back=options.held_back)
    stem = run_name(f"label_curve_{name}_{n}_{variant}", options.set)
    folder = "held_back" if options.held_back else "test"
    workdir = epath.Path(options.runs / f"{stem}_{folder}_seed{seed}")
    results = experiment.train_source(config, workdir, source)
    with_dots = [s for s in source.splits.get("unlabelled", []) if s.dots is not None]
    threshold = config.consistency.peak_threshold
    (share,) = held_back_shares(
        str(workdir), with_dots[:SHARE_IMAGES], radius=config.radius, thresholds=[threshold]
    )
    kept = ("f1", "precision", "recall", "n_points_mae", "n_points_bias", "label_f1")
    return {
        "set": name,
        "labels": n,
        "seed": seed,
        "variant": variant,
        "fields": list(options.set),
        **{key: results.get(key) for key in kept},
        "focal_share_within_radius": share,
        "seconds_train": results.get("seconds_train"),
        "split_hash": source.split_hash,
    }


@functools.cache
def pool(
    chosen: CurveSet, voxel_size: tuple[float, ...] | None
) -> tuple[list[Sample], list[Sample]]:
    """Training and test images of a set in a fixed order, resampled."""
    if chosen.half is None:
        splits = load.load_dataset("vgg_cells", protocol="consistency").splits
        parts = [*splits["train"], *splits["unlabelled"]], splits["test"]
    else:
        parts = read_half(chosen.half, "A"), read_half(chosen.half, "B")
    if chosen.factor == 1.0 and voxel_size is None:
        return parts
    resampling = Resampling(factor=chosen.factor, pixel_size=voxel_size)
    train, test = ([new for s in part for new in resampling.apply(s)] for part in parts)
    return train, test


def divided(
    name: str, train: list[Sample], test: list[Sample], *, n: int, seed: int, held_back: bool
) -> load.SplitDataset:
    """`n` labelled images by seed, the others unlabelled; or some of these in place of the test.

    The test images with `held_back` are the same for every seed and number of labels, and take no
    part in the training.
    """
    if held_back:
        kept = min(HELD_BACK, len(train) // 2)
        train, test = train[:-kept], train[-kept:]
    order = np.random.default_rng(seed).permutation(len(train))
    labelled = [train[i] for i in order[:n]]
    rest = [train[i] for i in order[n:]]
    names = json.dumps([sorted(s.name for s in part) for part in (labelled, rest, test)])
    return load.SplitDataset(
        name=name,
        protocol=f"label curve, {n} labelled" + (", held back" if held_back else ""),
        seed=seed,
        splits={"train": labelled, "unlabelled": rest, "test": test},
        is_fallback=False,
        split_hash=hashlib.sha256(names.encode()).hexdigest()[:12],
        description=f"{name}: {n} labelled, {len(rest)} unlabelled, {len(test)} to test",
    )


def paired_difference(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean of paired differences and half the width of its 95 % interval (Student's t).

    The interval of a single pair is not known: None.
    """
    mean = statistics.fmean(values)
    if len(values) < 2:
        return mean, None
    error = statistics.stdev(values) / len(values) ** 0.5
    return mean, float(stats.t.ppf(0.975, len(values) - 1)) * error


def table(results: Iterable[Result]) -> str:
    """Markdown: a row per set and number of labels with complete pairs."""
    cells: dict[tuple[str, int], dict[int, dict[str, Result]]] = {}
    for r in results:
        pairs = cells.setdefault((r["set"], r["labels"]), {})
        pairs.setdefault(r["seed"], {})[r["variant"]] = r
    rows = []
    for (name, n), by_seed in sorted(cells.items()):
        pairs = [p for _, p in sorted(by_seed.items()) if set(VARIANTS) <= set(p)]
        if not pairs:
            continue
        alone, both = (statistics.fmean(p[v]["f1"] for p in pairs) for v in VARIANTS)
        maes = [statistics.fmean(p[v]["n_points_mae"] for p in pairs) for v in VARIANTS]
        gain, half = paired_difference(
            [p["unlabelled"]["f1"] - p["supervised"]["f1"] for p in pairs]
        )
        interval = "-" if half is None else f"{gain - half:+.3f} to {gain + half:+.3f}"
        share = statistics.fmean(p["unlabelled"]["focal_share_within_radius"] for p in pairs)
        rows.append(
            [name, str(n), str(len(pairs)), f"{alone:.3f}", f"{both:.3f}", f"{gain:+.3f}", interval]
            + [f"{mae:.1f}" for mae in maes]
            + [f"{share:.2f}"]
        )
    head = ["set", "labels", "pairs", "F1 alone", "F1 with unlabelled", "difference"]
    head += ["95 % interval", "MAE alone", "MAE with unlabelled", "focal weight near dots"]
    return markdown(head, rows)


def recorded() -> list[Result]:
    """Figures of all recorded runs."""
    return [line["figures"] for line in output.recorded(RESULTS / "label_curve.jsonl")]


def record_once(found: dict[str, Any]) -> None:
    """Adds a run to the results unless it is there already."""
    same = ("set", "labels", "seed", "variant", "fields", "split_hash")
    if any(all(r[k] == found[k] for k in same) for r in recorded()):
        return
    config = f"{SETS[found['set']].config}:few" + "_supervised" * (found["variant"] == VARIANTS[0])
    record("label_curve", found, config=config, seed=found["seed"], split_hash=found["split_hash"])


if __name__ == "__main__":
    main()
