"""Where the files of a benchmark are: raw, prepared, or to be downloaded."""

import hashlib
import logging
import os
from collections.abc import Sequence
from pathlib import Path

from cellcount_jax.data.sample import Sample
from cellcount_jax.datasets.base import Benchmark

RAW_DIR = "CELLCOUNT_RAW_DIR"
"""Environment variable: folder with one folder of raw files per benchmark."""

log = logging.getLogger(__name__)

FilePath = str | os.PathLike[str]


def where_to_get(benchmark: Benchmark, raw_dir: FilePath | None = None) -> str:
    """One line for people who do not have the set."""
    root = raw_dir or os.environ.get(RAW_DIR) or f"${RAW_DIR}"
    return f"get it from {benchmark.page} and put {benchmark.raw_layout} in {root}/{benchmark.name}"


def find_raw(benchmark: Benchmark, raw_dir: FilePath | None = None) -> Path | None:
    """Folder of the raw files; None where no raw folder is set.

    Raises:
      ValueError: a raw folder is set and the set is missing in it.
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
    download: bool = False,
) -> Sequence[Sample] | None:
    """Prepared samples by index, decoded when asked for; None if there is nothing to open.

    Raw files are prepared once for each state of their folder; without them the newest
    preparation is taken, else, if allowed, the official archive is downloaded.

    Raises:
      ValueError: missing or wrong files.
    """
    # TensorFlow Datasets takes half a second to import: not before data are asked for.
    from cellcount_jax.datasets import tfds_builder

    root = prepared_root(data_dir)
    raw = find_raw(benchmark, raw_dir)
    if raw is not None:
        name = f"raw-{fingerprint(raw)}"
        folder = root / benchmark.name / name / tfds_builder.VERSION
        if not folder.exists():
            log.info("preparing %s from %s in %s", benchmark.name, raw, folder)
        try:
            return tfds_builder.prepare(benchmark, os.fspath(root), name=name, raw_dir=raw)
        except OSError as error:
            raise ValueError(
                f"{root}: prepared data cannot be written there ({error.strerror or error}); "
                "name another folder in TFDS_DATA_DIR"
            ) from error
    folders = list((root / benchmark.name).glob(f"*/{tfds_builder.VERSION}/dataset_info.json"))
    if folders:
        newest = max(folders, key=lambda f: f.stat().st_mtime_ns)
        log.info("taking %s from %s", benchmark.name, newest.parent)
        return tfds_builder.open_prepared(newest.parent)
    if not download:
        return None
    if benchmark.archive is None:
        raise ValueError(f"{benchmark.name}: cannot be downloaded; {where_to_get(benchmark)}")
    try:
        return tfds_builder.prepare(benchmark, os.fspath(root), name="download")
    except Exception as error:  # TFDS and the network raise many kinds
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(
            f"{benchmark.archive}: cannot be downloaded ({reason}); {where_to_get(benchmark)}"
        ) from error


def prepared_root(data_dir: FilePath | None = None) -> Path:
    """Folder of prepared data."""
    chosen = data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    return Path(chosen).expanduser()
