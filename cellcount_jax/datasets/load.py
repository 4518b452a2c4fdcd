"""Benchmarks by name, from raw files to divided samples; says plainly when they are simulated."""

import dataclasses
import logging
from collections.abc import Callable, Mapping

from cellcount_jax.data.resampling import Resampling
from cellcount_jax.data.sample import Sample
from cellcount_jax.datasets import splits as protocols
from cellcount_jax.datasets.base import Benchmark
from cellcount_jax.datasets.prepared import RAW_DIR, FilePath, open_records, where_to_get
from cellcount_jax.datasets.registry import BENCHMARKS
from cellcount_jax.datasets.splits import Protocol
from cellcount_jax.simulation.simulate import simulate_dataset

N_SIMULATED = 200
"""As many images as the VGG set has."""

SIMULATED_VOLUMES = {"train": 4, "test": 5, "unlabelled": 12}
SIMULATED_VOLUME_SHAPE = (32, 112, 112)
"""An eighth of a real light-sheet volume, as crowded; so few that they are made in seconds."""

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class SplitDataset:
    """Divided data.

    Attributes:
      name: of the benchmark.
      protocol: name of the division.
      seed: of the division.
      splits: part (train, validation, test, unlabelled) -> samples; empty parts are left out.
      is_fallback: whether these are simulated cells in place of the real set.
      split_hash: tells which images went where.
      description: one line for logs and reports.
      resampling: how the images were resized from those of the files, to be done again by counters.
    """

    name: str
    protocol: str
    seed: int
    splits: dict[str, list[Sample]]
    is_fallback: bool
    split_hash: str
    description: str
    resampling: Resampling = dataclasses.field(default_factory=Resampling)


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
    """Loads and divides a benchmark, preparing it from its raw files if need be.

    Args:
      name: of the benchmark.
      protocol: one of its protocols, None for its default; `NAME:GROUP` takes only the images
        of one group (a stain, a slide).
      seed: of the division.
      raw_dir: folder with one folder per benchmark; None takes CELLCOUNT_RAW_DIR. Given and the
        set missing in it is an error.
      data_dir: where prepared data are kept; None takes TFDS_DATA_DIR, else ~/tensorflow_datasets.
      download: fetch the official archive if there are neither raw nor prepared data.
      n_train: train on so many labelled images only (0 and None: on all).

    Returns:
      The samples of each part.

    Raises:
      ValueError: unknown names, missing or wrong files; one line that says what to do.
    """
    benchmark = get_benchmark(name)
    chosen = get_protocol(benchmark, protocol)
    samples, is_fallback, origin = _samples(benchmark, raw_dir, data_dir, download)
    names = [s.name for s in samples]
    division = protocols.split(
        chosen,
        names,
        [s.group for s in samples],
        [s.dots is not None for s in samples],
        seed,
        n_train=n_train or None,
        counts=[s.count or 0 for s in samples],
    )
    splits = {part: [samples[i] for i in rows] for part, rows in division.items()}
    sizes = ", ".join(f"{len(rows)} {part}" for part, rows in division.items())
    return SplitDataset(
        name=name,
        protocol=protocol or benchmark.default_protocol,
        seed=seed,
        splits=splits,
        is_fallback=is_fallback,
        split_hash=protocols.split_hash(division, names),
        description=f"{origin}, protocol {chosen.name}, seed {seed}: {sizes}",
    )


def resampled(dataset: SplitDataset, resampling: Resampling) -> SplitDataset:
    """The same data with every image resized or cut, and the record of it for counters.

    Raises:
      ValueError: see `Resampling.apply`.
    """
    splits = {
        split: [new for sample in samples for new in resampling.apply(sample)]
        for split, samples in dataset.splits.items()
    }
    return dataclasses.replace(dataset, splits=splits, resampling=resampling)


def get_benchmark(name: str) -> Benchmark:
    """The benchmark of that name, or a ValueError that lists them."""
    if name not in BENCHMARKS:
        raise ValueError(f"no data set {name!r}; there are {', '.join(BENCHMARKS)}")
    return BENCHMARKS[name]


def get_protocol(benchmark: Benchmark, text: str | None) -> Protocol:
    """The protocol `NAME` or `NAME:GROUP`, or a ValueError that lists them."""
    name, _, group = (text or benchmark.default_protocol).partition(":")
    if name not in benchmark.protocols:
        known = ", ".join(benchmark.protocols)
        raise ValueError(f"{benchmark.name}: no protocol {name!r}; there are {known}")
    protocol = benchmark.protocols[name]
    return dataclasses.replace(protocol, only=(group,)) if group else protocol


def _samples(
    benchmark: Benchmark,
    raw_dir: FilePath | None,
    data_dir: FilePath | None,
    download: bool,
) -> tuple[list[Sample], bool, str]:
    """All samples, whether they are simulated, and a few words on where they come from."""
    records = open_records(benchmark, raw_dir, data_dir, may_download=download)
    if records is not None:
        return list(records), False, f"{benchmark.name} ({benchmark.title})"
    if benchmark.name not in SIMULATED:
        raise ValueError(
            f"{benchmark.name}: no raw files ({RAW_DIR} is not set) and no prepared data; "
            f"{where_to_get(benchmark)}"
        )
    log.warning(
        "%s: no raw files (%s is not set) and no prepared data, so SIMULATED cells are used; %s",
        benchmark.name,
        RAW_DIR,
        where_to_get(benchmark),
    )
    return SIMULATED[benchmark.name](), True, f"SIMULATED cells in place of {benchmark.name}"


def _simulated_images() -> list[Sample]:
    return list(simulate_dataset(seed=0, n=N_SIMULATED, shape=(256, 256), preset="vgg"))


def _simulated_volumes() -> list[Sample]:
    """Volumes in the parts of the real set; those of the part `unlabelled` keep no dots."""
    parts = [part for part, n in SIMULATED_VOLUMES.items() for _ in range(n)]
    made = simulate_dataset(
        seed=0, n=len(parts), shape=SIMULATED_VOLUME_SHAPE, preset="light_sheet"
    )
    return [
        dataclasses.replace(
            sample,
            name=f"{part}/{sample.name}",
            group=part,
            dots=None if part == "unlabelled" else sample.dots,
        )
        for part, sample in zip(parts, made, strict=True)
    ]


SIMULATED: Mapping[str, Callable[[], list[Sample]]] = {
    "vgg_cells": _simulated_images,
    "light_sheet": _simulated_volumes,
}
"""Sets that simulated cells may stand in for where their files are absent."""
