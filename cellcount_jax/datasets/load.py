"""Loads benchmarks by name, from raw files to split samples, or simulated cells in their place."""

import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence

from cellcount_jax.data.resampling import Resampling
from cellcount_jax.data.sample import Sample
from cellcount_jax.datasets import splits as protocols
from cellcount_jax.datasets.base import Benchmark
from cellcount_jax.datasets.prepared import RAW_DIR, FilePath, open_records, where_to_get
from cellcount_jax.datasets.registry import BENCHMARKS
from cellcount_jax.datasets.splits import Protocol
from cellcount_jax.simulation.simulate import simulate_dataset

N_SIMULATED_IMAGES = 200
"""As many images as in the VGG dataset."""

SIMULATED_VOLUMES = {"train": 4, "test": 5, "unlabelled": 12}
SIMULATED_VOLUME_SHAPE = (32, 112, 112)
"""An eighth of a real light-sheet volume at the same density; few enough to take seconds."""

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class SplitDataset:
    """A dataset split into training, validation, test and unlabelled samples.

    Attributes:
      name: Name of the dataset.
      protocol: Name of the protocol.
      seed: Seed of the split.
      splits: Samples by split (train, validation, test, unlabelled); empty splits are left out.
      is_fallback: Whether these are simulated cells in place of the real dataset.
      split_hash: Identifies which images are in which split.
      description: One line for logs and reports.
      resampling: How the files' images were resized; counters repeat it.
      left_out: The reason for each file that is in no split, by name.
      remarks: Doubts about images that are in a split.
    """

    name: str
    protocol: str
    seed: int
    splits: dict[str, list[Sample]]
    is_fallback: bool
    split_hash: str
    description: str
    resampling: Resampling = dataclasses.field(default_factory=Resampling)
    left_out: Mapping[str, str] = dataclasses.field(default_factory=dict)
    remarks: Sequence[str] = ()


def load_dataset(
    name: str,
    *,
    protocol: str | None = None,
    seed: int = 0,
    raw_dir: FilePath | None = None,
    data_dir: FilePath | None = None,
    download: bool = False,
    n_train: int | None = None,
) -> SplitDataset:
    """Loads and splits a benchmark, preparing it from its raw files if necessary.

    Args:
      name: Name of the benchmark.
      protocol: One of its protocols, None for its default; `NAME:GROUP` takes only the images
        of one group (a stain, a slide).
      seed: Seed of the split.
      raw_dir: Folder with one folder per benchmark; None: CELLCOUNT_RAW_DIR. If it is set, the
        benchmark must be in it.
      data_dir: Folder of prepared data; None: TFDS_DATA_DIR, else ~/tensorflow_datasets.
      download: Whether to download the official archive if there are neither raw nor prepared data.
      n_train: Number of labelled images to train on (0 and None: all).

    Raises:
      ValueError: Unknown names, missing or wrong files.
    """
    benchmark = get_benchmark(name)
    chosen = get_protocol(benchmark, protocol)
    samples, is_fallback, provenance = _samples(benchmark, raw_dir, data_dir, download)
    names = [s.name for s in samples]
    indices = protocols.split(
        chosen,
        names,
        [s.group for s in samples],
        [s.dots is not None for s in samples],
        seed,
        n_train=n_train or None,
        counts=[s.count or 0 for s in samples],
    )
    splits = {split: [samples[i] for i in rows] for split, rows in indices.items()}
    return SplitDataset(
        name=name,
        protocol=protocol or benchmark.default_protocol,
        seed=seed,
        splits=splits,
        is_fallback=is_fallback,
        split_hash=protocols.split_hash(indices, names),
        description=f"{provenance}, protocol {chosen.name}, seed {seed}: "
        f"{protocols.describe_sizes(splits)}",
    )


def resampled(dataset: SplitDataset, resampling: Resampling) -> SplitDataset:
    """The same data with every image resized or cut, and a record of that for counters.

    Raises:
      ValueError: See `Resampling.apply`.
    """
    splits = {
        split: [new for sample in samples for new in resampling.apply(sample)]
        for split, samples in dataset.splits.items()
    }
    return dataclasses.replace(dataset, splits=splits, resampling=resampling)


def get_benchmark(name: str) -> Benchmark:
    """The benchmark of that name, or a ValueError that lists them."""
    if name not in BENCHMARKS:
        raise ValueError(f"no dataset {name!r}; choose one of {', '.join(BENCHMARKS)}")
    return BENCHMARKS[name]


def get_protocol(benchmark: Benchmark, text: str | None) -> Protocol:
    """The protocol `NAME` or `NAME:GROUP`, or a ValueError that lists them."""
    name, _, group = (text or benchmark.default_protocol).partition(":")
    if name not in benchmark.protocols:
        known = ", ".join(benchmark.protocols)
        raise ValueError(f"{benchmark.name}: no protocol {name!r}; choose one of {known}")
    protocol = benchmark.protocols[name]
    return dataclasses.replace(protocol, only=(group,)) if group else protocol


def _samples(
    benchmark: Benchmark,
    raw_dir: FilePath | None,
    data_dir: FilePath | None,
    download: bool,
) -> tuple[list[Sample], bool, str]:
    """All samples, whether they are simulated, and their provenance in words."""
    records = open_records(benchmark, raw_dir, data_dir, may_download=download)
    if records is not None:
        return list(records), False, f"{benchmark.name} ({benchmark.title})"
    if benchmark.name not in SIMULATED:
        raise ValueError(
            f"{benchmark.name}: no raw files ({RAW_DIR} is not set) and no prepared data; "
            f"{where_to_get(benchmark)}"
        )
    log.warning(
        "%s: no raw files (%s is not set) and no prepared data; using SIMULATED cells instead; %s",
        benchmark.name,
        RAW_DIR,
        where_to_get(benchmark),
    )
    return SIMULATED[benchmark.name](), True, f"SIMULATED cells in place of {benchmark.name}"


def _simulated_images() -> list[Sample]:
    return list(simulate_dataset(seed=0, n=N_SIMULATED_IMAGES, shape=(256, 256), preset="vgg"))


def _simulated_volumes() -> list[Sample]:
    """Volumes in the groups of the real dataset; those of the group `unlabelled` have no dots."""
    groups = [group for group, n in SIMULATED_VOLUMES.items() for _ in range(n)]
    volumes = simulate_dataset(
        seed=0, n=len(groups), shape=SIMULATED_VOLUME_SHAPE, preset="light_sheet"
    )
    return [
        dataclasses.replace(
            sample,
            name=f"{group}/{sample.name}",
            group=group,
            dots=None if group == "unlabelled" else sample.dots,
        )
        for group, sample in zip(groups, volumes, strict=True)
    ]


SIMULATED: Mapping[str, Callable[[], list[Sample]]] = {
    "vgg_cells": _simulated_images,
    "light_sheet": _simulated_volumes,
}
"""Datasets that simulated cells may replace if their files are missing."""
