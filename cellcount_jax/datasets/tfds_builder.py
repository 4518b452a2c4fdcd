"""Benchmarks as TFDS builders that work without TensorFlow: array_record files of tensors."""

import contextlib
import dataclasses
import functools
import random
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
import tensorflow_datasets as tfds
from absl import logging
from etils import epath

from cellcount_jax.data.sample import Sample
from cellcount_jax.datasets.base import Benchmark

VERSION = "1.0.0"
"""Raised when the decoding of any raw file or the record changes: sets are then prepared anew."""

SPLIT = "images"
"""All images lie in one TFDS split; protocols divide them when they are loaded."""

tfds.disable_progress_bar()


@dataclasses.dataclass(eq=False)
class RawConfig(tfds.core.BuilderConfig):
    """Where the raw files of one preparation come from; `name` is their fingerprint."""

    raw_dir: Path | None = None


class BenchmarkBuilder(tfds.core.GeneratorBasedBuilder):
    """Writes what `benchmark.read` yields; subclasses are made by `builder_class`."""

    VERSION = tfds.core.Version(VERSION)
    benchmark: Benchmark

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.benchmark.title,
            features=features(self.benchmark),
            homepage=self.benchmark.page,
            citation=self.benchmark.citation,
            disable_shuffling=True,
        )

    @property
    def _checksums_path(self) -> epath.Path:
        """Beside the downloads: a checksum that was seen once holds for every later download."""
        return epath.Path(self.data_dir_root) / "downloads" / "checksums.tsv"

    @property
    def url_infos(self) -> dict[str, Any]:
        path = self._checksums_path
        return dict(tfds.download.checksums.load_url_infos(path)) if path.exists() else {}

    def _log_download_bytes(self) -> None:
        """TFDS would print to stdout here; the loader logs what it prepares."""

    _log_download_done = _log_download_bytes

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        raw_dir = self.builder_config.raw_dir
        if raw_dir is None:
            raw_dir = Path(dl_manager.download(self.benchmark.archive))
        return {SPLIT: self._generate_examples(raw_dir)}

    def _generate_examples(self, raw: Path) -> Iterator[tuple[int, dict[str, Any]]]:
        number = -1
        with _unpacked(raw) as folder:
            for number, sample in enumerate(self.benchmark.read(folder)):
                yield number, encode(sample, self.benchmark)
        if number < 0:
            raise ValueError(f"{raw}: no images found; expected {self.benchmark.raw_layout}")


@contextlib.contextmanager
def _unpacked(raw: Path) -> Iterator[Path]:
    """The folder itself, or a zip's contents for a while; TFDS would unpack with TensorFlow."""
    if raw.is_dir():
        yield raw
        return
    with tempfile.TemporaryDirectory() as folder:
        try:
            with zipfile.ZipFile(raw) as content:
                content.extractall(folder)
        except zipfile.BadZipFile as error:
            raise ValueError(f"{raw}: what was downloaded is not a zip file") from error
        yield Path(folder)


@functools.cache
def builder_class(benchmark: Benchmark) -> type[BenchmarkBuilder]:
    """The TFDS builder of a benchmark."""
    namespace = {
        "name": benchmark.name,
        "benchmark": benchmark,
        "__module__": __name__,
        "__doc__": benchmark.title,
    }
    with tfds.core.registered.skip_registration():
        return type(benchmark.name, (BenchmarkBuilder,), namespace)


def features(benchmark: Benchmark) -> tfds.features.FeaturesDict:
    """TFDS features of a benchmark.

    Tensors of several unknown sizes need an encoding; bytes, because array_record compresses its
    records anyway: zlib takes three times as long and saves nothing.
    """
    space = (None,) * benchmark.ndim
    tensor = functools.partial(tfds.features.Tensor, encoding="bytes")
    spec = {
        "name": tfds.features.Text(),
        "group": tfds.features.Text(),
        "labelled": tfds.features.Scalar(dtype=np.bool_),
        "image": tensor(shape=(*space, benchmark.channels), dtype=np.dtype(benchmark.dtype)),
        "dots": tensor(shape=(None, benchmark.ndim), dtype=np.float32),
        "spacing": tfds.features.Tensor(shape=(None,), dtype=np.float32),
    }
    if benchmark.has_labels:
        spec["labels"] = tensor(shape=space, dtype=np.uint16)
    return tfds.features.FeaturesDict(spec)


def encode(sample: Sample, benchmark: Benchmark) -> dict[str, Any]:
    """The record of a sample."""
    ndim = benchmark.ndim
    record = {
        "name": sample.name,
        "group": sample.group,
        "labelled": sample.dots is not None,
        "image": sample.image.astype(benchmark.dtype, copy=False),
        "dots": np.zeros((0, ndim), np.float32) if sample.dots is None else sample.dots,
        "spacing": np.asarray(sample.spacing or (), np.float32),
    }
    if benchmark.has_labels:
        # TFDS misreads an array of fewer bytes than axes, so "no mask" cannot be an empty one; it
        # is told by its size, which is not the image's.
        labels = np.zeros((2,) * ndim) if sample.labels is None else sample.labels
        if labels.max() > np.iinfo(np.uint16).max:
            raise ValueError(f"{sample.name}: more than 65,535 instances in its mask")
        record["labels"] = labels.astype(np.uint16)
    return record


def decode(record: dict[str, Any]) -> Sample:
    """The sample of a record."""
    labels = record.get("labels")
    if labels is not None and labels.shape != record["image"].shape[:-1]:
        labels = None
    spacing = tuple(round(float(s), 6) for s in record["spacing"])
    return Sample(
        name=record["name"].decode(),
        image=record["image"],
        dots=record["dots"] if record["labelled"] else None,
        group=record["group"].decode(),
        spacing=spacing or None,
        labels=labels,
    )


class Records(Sequence[Sample]):
    """Prepared samples by index, decoded when asked for; what Grain or a list reads from."""

    def __init__(self, source: Sequence[dict[str, Any]]):
        self.source = source

    def __len__(self) -> int:
        return len(self.source)

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> list[Sample]: ...
    def __getitem__(self, index: int | slice) -> Sample | list[Sample]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not 0 <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        return decode(self.source[index])


def prepare(
    benchmark: Benchmark, data_dir: str, *, name: str, raw_dir: Path | None = None
) -> Records:
    """Opens the preparation `name`, making it first if it is not there.

    Args:
      benchmark: which set.
      data_dir: TFDS folder.
      name: of the preparation: the raw files' fingerprint.
      raw_dir: folder of the raw files; None downloads the official archive.

    Returns:
      The samples in the order of `benchmark.read`.

    Raises:
      ValueError: the raw files are wrong, or hold no image.
    """
    with _quiet():
        made = builder_class(benchmark)(
            data_dir=data_dir, config=RawConfig(name=name, version=VERSION, raw_dir=raw_dir)
        )
        if not made.is_prepared():
            _make(made, register=raw_dir is None and benchmark.archive not in made.url_infos)
    return open_prepared(made.data_path)


def _make(builder: BenchmarkBuilder, *, register: bool) -> None:
    config = tfds.download.DownloadConfig(try_download_gcs=False, register_checksums=register)
    if register:
        builder._checksums_path.parent.mkdir(parents=True, exist_ok=True)
    # TFDS draws the name of its unfinished folder from this generator; processes that were seeded
    # alike would write into one folder.
    state = random.getstate()
    random.seed()
    try:
        builder.download_and_prepare(file_format="array_record", download_config=config)
    except OSError:
        # Another process finished first: TFDS cannot rename its folder over a full one.
        if not builder.data_path.exists():
            raise
    finally:
        random.setstate(state)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without TFDS's warning that a configuration was not listed in advance."""
    before = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        logging.set_verbosity(before)


def open_prepared(folder: epath.PathLike) -> Records:
    """Opens the folder of a finished preparation."""
    return Records(tfds.builder_from_directory(folder).as_data_source(split=SPLIT))
