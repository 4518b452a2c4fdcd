"""Compares the benchmarks on disk with their published statistics."""

import dataclasses
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from cellcount_jax.data.sample import Sample
from cellcount_jax.datasets import splits
from cellcount_jax.datasets.base import Benchmark
from cellcount_jax.datasets.load import (
    FilePath,
    find_raw,
    get_benchmark,
    open_records,
    prepared_root,
    where_to_get,
)
from cellcount_jax.datasets.registry import BENCHMARKS
from cellcount_jax.datasets.splits import Protocol
from cellcount_jax.datasets.usable_images.usable import misplaced

TOLERANCE = 0.03
"""Relative difference from the published mean count above which there is a warning."""


def describe_all(raw_dir: FilePath | None = None, data_dir: FilePath | None = None) -> list[str]:
    """A line for each benchmark: where it lies, or where to get it; no image is read."""
    return [_describe(b, raw_dir, data_dir) for b in BENCHMARKS.values()]


def _describe(benchmark: Benchmark, raw_dir: FilePath | None, data_dir: FilePath | None) -> str:
    try:
        found = _located(benchmark, raw_dir, data_dir)
    except ValueError as error:  # damaged prepared data do not hide the others
        return f"{benchmark.name}: {benchmark.title}; {error}"
    if isinstance(found, str):
        return found
    return f"{benchmark.name}: {benchmark.title}, in {found[0]}; licence: {benchmark.licence}"


def _located(
    benchmark: Benchmark, raw_dir: FilePath | None, data_dir: FilePath | None
) -> tuple[Path, Iterable[Sample]] | str:
    """Folder and samples of a benchmark, none read yet; or a line that says where to get it."""
    try:
        raw = find_raw(benchmark, raw_dir)
    except ValueError:
        return f"{benchmark.name}: not available; {where_to_get(benchmark, raw_dir)}"
    if raw is not None:
        return raw, benchmark.read(raw)
    prepared = open_records(benchmark, None, data_dir)
    if prepared is None:
        return f"{benchmark.name}: not available; {where_to_get(benchmark)}"
    return prepared_root(data_dir) / benchmark.name, prepared


def check(
    name: str, *, raw_dir: FilePath | None = None, data_dir: FilePath | None = None
) -> list[str]:
    """Compares a benchmark on disk with its published statistics; writes nothing.

    Args:
      name: Name of the benchmark.
      raw_dir: As in `load_dataset`.
      data_dir: As in `load_dataset`.

    Returns:
      Lines for people; differences begin with `warning`. A missing dataset gives one line that
      says where to get it and where to put it.

    Raises:
      ValueError: No such benchmark.
    """
    benchmark = get_benchmark(name)
    try:
        located = _located(benchmark, raw_dir, data_dir)
        if isinstance(located, str):
            return [located]
        folder, samples = located
        found, flat = [], []
        for sample in samples:
            found.append(_Summary.of(sample))
            if sample.dots is not None and sample.dots.shape[-1] == 2:
                flat.append(sample)
    except ValueError as error:
        return [f"{name}: {benchmark.title}", f"warning: {error}"]
    if not found:
        return [f"{name}: {benchmark.title}", f"warning: {folder}: no images found"]
    return [
        f"{name}: {benchmark.title}, in {folder}",
        *_compare(benchmark, found),
        *(f"warning: {line}" for line, _ in misplaced(flat).values()),
        *(_split_line(benchmark, p, found) for p in benchmark.protocols.values()),
        f"  licence: {benchmark.licence}; page: {benchmark.page}",
        f"  cite: {benchmark.citation}",
    ]


@dataclasses.dataclass(frozen=True)
class _Summary:
    """A sample without its pixels."""

    name: str
    group: str
    shape: tuple[int, ...]
    count: int | None

    @classmethod
    def of(cls, sample: Sample) -> "_Summary":
        return cls(sample.name, sample.group, sample.image.shape, sample.count)


def _compare(benchmark: Benchmark, found: Sequence[_Summary]) -> list[str]:
    """Number and size of images and their counts, with the published ones."""
    published = benchmark.published
    shapes = sorted({s.shape for s in found}, key=math.prod)
    sizes = " to ".join(
        "x".join(map(str, shape)) for shape in dict.fromkeys(shapes[:: len(shapes) - 1 or 1])
    )
    among = f" of {published.group}" if published.group else ""
    compared = [s for s in found if published.group in ("", s.group)]
    counts = [s.count for s in compared if s.count is not None]
    lines = [f"  {len(found)} images, {sizes} {benchmark.dtype}"]
    if not counts:
        return [*lines, f"warning: {benchmark.name}: no labelled images{among}"]
    mean, sd = float(np.mean(counts)), float(np.std(counts))
    known = "" if published.mean is None else f" (published {published.mean:g} +- {published.sd:g})"
    lines.append(
        f"  cells per image{among} {mean:.1f} +- {sd:.1f}{known}, "
        f"{min(counts)} to {max(counts)}, {sum(counts)} in total"
    )
    if len(counts) != published.n_images:
        lines.append(
            f"warning: {benchmark.name}: {len(counts)} labelled images{among}, "
            f"published {published.n_images}"
        )
    if published.mean is not None and abs(mean - published.mean) > TOLERANCE * published.mean:
        lines.append(
            f"warning: {benchmark.name}: {mean:.1f} cells per image{among}, published "
            f"{published.mean:g} ({100 * (mean / published.mean - 1):+.1f} %)"
        )
    return lines


def _split_line(benchmark: Benchmark, protocol: Protocol, found: Sequence[_Summary]) -> str:
    names, groups = [s.name for s in found], [s.group for s in found]
    labelled = [s.count is not None for s in found]
    default = " (default)" if protocol.name == benchmark.default_protocol else ""
    try:
        indices = splits.split(protocol, names, groups, labelled, seed=0)
    except ValueError as error:
        return f"warning: {benchmark.name}: {error}"
    return f"  split {protocol.name}{default}: {splits.describe_sizes(indices)}; {protocol.source}"
