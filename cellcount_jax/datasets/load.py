"""Loads benchmarks by name: raw files, prepared ones, or a download, to split samples."""

import dataclasses
import hashlib
import logging
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from cellcount_jax.data.resampling import Resampling
from cellcount_jax.data.sample import Sample
from cellcount_jax.datasets import splits as protocols
from cellcount_jax.datasets.base import Benchmark
from cellcount_jax.datasets.registry import BENCHMARKS
from cellcount_jax.datasets.simulated import SIMULATED
from cellcount_jax.datasets.splits import Protocol
from cellcount_jax.io import download as downloads

RAW_DIR = "CELLCOUNT_RAW_DIR"
"""Environment variable: folder with one folder of raw files per benchmark."""

log = logging.getLogger(__name__)

FilePath = str | os.PathLike[str]


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


def where_to_get(benchmark: Benchmark, raw_dir: FilePath | None = None) -> str:
    """One line that says where to get a benchmark and where to put it."""
    root = raw_dir or os.environ.get(RAW_DIR) or f"${RAW_DIR}"
    return f"get it from {benchmark.page} and put {benchmark.raw_layout} in {root}/{benchmark.name}"


def find_raw(benchmark: Benchmark, raw_dir: FilePath | None = None) -> Path | None:
    """Folder of the raw files; None if no raw folder is set.

    Raises:
      ValueError: A raw folder is set and the benchmark is missing in it.
    """
    root = raw_dir or os.environ.get(RAW_DIR)
    if not root:
        return None
    folder = Path(root).expanduser() / benchmark.name
    if not folder.is_dir():
        raise ValueError(f"{folder}: not found; {where_to_get(benchmark, root)}")
    return folder


def fingerprint(folder: Path) -> str:
    """Twelve hexadecimal digits of the names, sizes and times of all files below a folder."""
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        stat = path.stat()
        line = f"{path.relative_to(folder).as_posix()}\0{stat.st_size}\0{stat.st_mtime_ns}\n"
        digest.update(line.encode())
    return digest.hexdigest()[:12]


def open_records(
    benchmark: Benchmark,
    raw_dir: FilePath | None = None,
    data_dir: FilePath | None = None,
    *,
    may_download: bool = False,
) -> Sequence[Sample] | None:
    """Prepared samples by index, decoded on access; None if there is nothing to open.

    Raw files are prepared once for each state of their folder; without them the newest
    preparation is used, else, if allowed, the official archive is downloaded.

    Raises:
      ValueError: Missing or wrong files.
    """
    # Importing TensorFlow Datasets takes half a second, so only when data are needed.
    from cellcount_jax.datasets import tfds_builder

    root = prepared_root(data_dir)
    raw = find_raw(benchmark, raw_dir)
    if raw is not None:
        name = f"raw-{fingerprint(raw)}"
        if not (root / benchmark.name / name / tfds_builder.VERSION).exists():
            log.info("preparing %s from %s in %s", benchmark.name, raw, root)
        try:
            return tfds_builder.prepare(benchmark, raw, data_dir=root, name=name)
        except OSError as error:
            raise ValueError(
                f"{root}: prepared data cannot be written here ({error.strerror or error}); "
                "set TFDS_DATA_DIR to another folder"
            ) from error
    folders = list((root / benchmark.name).glob(f"*/{tfds_builder.VERSION}/dataset_info.json"))
    if folders:
        newest = max(folders, key=lambda f: f.stat().st_mtime_ns).parent
        log.info("using %s from %s", benchmark.name, newest)
        return tfds_builder.Records(newest)
    return _prepare_download(benchmark, root) if may_download else None


def _prepare_download(benchmark: Benchmark, root: Path) -> Sequence[Sample]:
    """The official archive; its checksum, once seen, holds for every later download."""
    from cellcount_jax.datasets import tfds_builder

    url, advice = benchmark.archive, where_to_get(benchmark)
    if url is None:
        raise ValueError(f"{benchmark.name}: cannot be downloaded; {advice}")
    list_path = root / "downloads" / "checksums.tsv"
    lines = list_path.read_text().splitlines() if list_path.exists() else []
    known = {row[0]: row[2] for row in (line.split("\t") for line in lines)}
    path = downloads.fetch(url, list_path.parent, sha256=known.get(url), advice=advice)
    with tempfile.TemporaryDirectory() as folder:
        try:
            shutil.unpack_archive(path, folder)
        except (shutil.ReadError, OSError) as error:
            path.unlink()
            raise ValueError(f"{url}: is not a zip file ({error}); {advice}") from error
        if url not in known:
            sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
            row = f"{url}\t{path.stat().st_size}\t{sha256}\t{path.name}"
            list_path.write_text("\n".join([*lines, row]) + "\n")
        return tfds_builder.prepare(benchmark, Path(folder), data_dir=root, name="download")


def prepared_root(data_dir: FilePath | None = None) -> Path:
    """Folder of prepared data."""
    chosen = data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    return Path(chosen).expanduser()
