"""Finds the files of a benchmark: raw, prepared, or to be downloaded."""

import hashlib
import logging
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from cellcount_jax.data.sample import Sample
from cellcount_jax.datasets.base import Benchmark
from cellcount_jax.io import download

RAW_DIR = "CELLCOUNT_RAW_DIR"
"""Environment variable: folder with one folder of raw files per benchmark."""

log = logging.getLogger(__name__)

FilePath = str | os.PathLike[str]


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
    path = download.fetch(url, list_path.parent, sha256=known.get(url), advice=advice)
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
