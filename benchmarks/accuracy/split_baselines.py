"""What a split alone says: test images that share a slide or donor with training, and baselines.

    python -m benchmarks.accuracy.split_baselines --seeds 0 1 2 --record

For MBM (crops of 11 slides) and ADI (of 165 donors), split at random and with slides or donors kept
apart. No network is trained; the baselines, which never look for a cell, are fitted on the training
images and measured on the test images, as in every run. Seconds. Writes
`runs/benchmarks/split_baselines.json` and `.md`.
"""

import argparse
from collections.abc import Sequence

from benchmarks import output
from benchmarks.output import markdown, mean_and_sd
from benchmarks.read_config import read_config
from cellcount_jax.data.sample import Sample
from cellcount_jax.datasets import load
from cellcount_jax.evaluation.baselines import baseline_errors
from cellcount_jax.evaluation.evaluate import Evaluation
from cellcount_jax.evaluation.image import ImageEvaluation
from cellcount_jax.training import run as experiment

NAME = "split_baselines"

SPLITS = {
    "MBM, at random": ("configs/dcl_mbm.py:quick", "dcl"),
    "MBM, by slide": ("configs/dcl_mbm.py:quick", "dcl_by_slide"),
    "ADI, at random": ("configs/dcl_adi.py:quick", "dcl"),
    "ADI, by donor": ("configs/dcl_adi.py:quick", "dcl_by_donor"),
}

COLUMNS = {
    "baseline_mean_mae": "training mean",
    "baseline_intensity_mae": "intensity line",
    "baseline_histogram_mae": "intensity histogram",
    "baseline_histogram_patch_mae": "histogram, per patch",
}


def main() -> None:
    """Measures all splits; prints the table and writes the files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    output.add_arguments(parser)
    options = parser.parse_args()
    results = {
        title: [measure(*split, seed) for seed in options.seeds] for title, split in SPLITS.items()
    }
    output.write(options.out, NAME, results, table(results))
    if options.record:
        for title, runs in results.items():
            for found in runs:
                kept = {"seed": found["seed"], "split_hash": found["split_hash"]}
                output.record(NAME, {"split": title, **found}, config=SPLITS[title][0], **kept)
    print(table(results))


def measure(config: str, protocol: str, seed: int) -> dict:
    """Figures of one split."""
    settings = read_config(config, [f"seed={seed}"])
    settings.data.protocol = protocol
    whole = load.load_dataset(settings.data.name, protocol=protocol, seed=seed)
    source = experiment.load_source(settings)
    test = source.splits["test"]
    images = [ImageEvaluation(s.name, group=s.group, predicted=0.0, dots=s.dots) for s in test]
    errors = baseline_errors(source.splits["train"], Evaluation(test, (), images, {}, 0.0))
    return {
        "protocol": protocol,
        "seed": seed,
        "split_hash": source.split_hash,
        "n_test": len(whole.splits["test"]),
        "n_shared": n_shared(whole.splits["train"], whole.splits["test"]),
        **errors,
    }


def n_shared(train: Sequence[Sample], test: Sequence[Sample]) -> int:
    """Number of test images of a group that is also in training."""
    known = {sample.group for sample in train}
    return sum(sample.group in known for sample in test)


def table(results: dict[str, list[dict]]) -> str:
    """Markdown: a row per split, means and standard deviations over seeds."""
    rows = []
    for title, runs in results.items():
        shared = ", ".join(str(r["n_shared"]) for r in runs)
        means = [mean_and_sd([r.get(key) for r in runs]) for key in COLUMNS]
        rows.append([title, f"{shared} of {runs[0]['n_test']}", *means])
    return markdown(
        ["MAE per image", "share a slide or donor with training", *COLUMNS.values()], rows
    )


if __name__ == "__main__":
    main()
