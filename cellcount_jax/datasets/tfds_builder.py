"""Benchmarks as TFDS datasets without TensorFlow: array_record files of tensors."""

import contextlib
import functools
import io
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from absl import logging
from array_record.python.array_record_module import ArrayRecordReader

from cellcount_jax.data.sample import Sample
from cellcount_jax.datasets.base import Benchmark
from cellcount_jax.runtime.error_text import one_line

VERSION = "1.0.0"
"""Raised when the decoding of raw files or the record changes: datasets are prepared again."""

SPLIT = "images"
"""All images lie in one TFDS split; protocols split them when they are loaded."""

tfds.disable_progress_bar()


class BenchmarkBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """Writes the samples that `benchmark.read` yields from the folder `raw`."""

    VERSION = tfds.core.Version(VERSION)

    def __init__(self, benchmark: Benchmark, raw: Path, *, data_dir: Path, name: str):
        self.name = benchmark.name
        self.benchmark = benchmark
        self.raw = raw
        config = tfds.core.BuilderConfig(name=name, version=VERSION)
        super().__init__(data_dir=data_dir, config=config, file_format="array_record")

    def _info(self) -> tfds.core.DatasetInfo:
        benchmark = self.benchmark
        space = (None,) * benchmark.ndim
        # Tensors of several unknown sizes need an encoding. Not zlib: array_record compresses its
        # records anyway, so that would take three times as long and save nothing.
        tensor = functools.partial(tfds.features.Tensor, encoding="bytes")
        features = {
            "name": tfds.features.Text(),
            "group": tfds.features.Text(),
            "labelled": tfds.features.Scalar(dtype=np.bool_),
            "image": tensor(shape=(*space, benchmark.channels), dtype=np.dtype(benchmark.dtype)),
            "dots": tensor(shape=(None, benchmark.ndim), dtype=np.float32),
            "spacing": tfds.features.Tensor(shape=(None,), dtype=np.float32),
        }
        if benchmark.has_labels:
            features["labels"] = tensor(shape=space, dtype=np.uint16)
        return tfds.core.DatasetInfo(
            builder=self,
            description=benchmark.title,
            features=tfds.features.FeaturesDict(features),
            homepage=benchmark.page,
            citation=benchmark.citation,
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        return {SPLIT: self._generate_examples()}

    def _generate_examples(self) -> Iterator[tuple[int, dict[str, Any]]]:
        number = -1
        for number, sample in enumerate(self.benchmark.read(self.raw)):
            yield number, encode(sample, self.benchmark)
        if number < 0:
            raise ValueError(f"{self.raw}: no images found; expected {self.benchmark.raw_layout}")


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
        # is recognised by its size, which is not the image's.
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
    """Prepared samples by index, decoded on access; read by Grain or into a list."""

    def __init__(self, folder: Path):
        self.folder = folder
        with _damage_named(folder):
            builder = tfds.builder_from_directory(folder)
            (split,) = builder.info.splits  # datasets prepared by version 0.1.0 name it otherwise
            self.source = builder.as_data_source(split=split)
            files = [ArrayRecordReader(str(file)) for file in folder.glob("*.array_record*")]
            held = sum(file.num_records() for file in files)
            if held != len(self.source):
                raise ValueError(f"{held} records, not {len(self.source)}")

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: Any) -> Any:
        if not 0 <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        with _damage_named(self.folder):
            return decode(self.source[index])


@contextlib.contextmanager
def _damage_named(folder: Path) -> Iterator[None]:
    """Turns whatever TFDS raises on damaged files into one line that says what to do.

    Raises:
      ValueError: The prepared data cannot be read.
    """
    try:
        yield
    except Exception as error:  # from TFDS, Protobuf, Riegeli or JSON
        text = one_line(error, most=160)
        raise ValueError(
            f"{folder}: the prepared data are damaged ({text}); delete this folder, and the same "
            "command prepares them again from the raw files"
        ) from error


def prepare(benchmark: Benchmark, raw: Path, *, data_dir: Path, name: str) -> Records:
    """The samples of the raw folder, in the order of `benchmark.read`, prepared if necessary.

    Args:
      benchmark: The dataset.
      raw: Folder of the raw files.
      data_dir: TFDS folder.
      name: Name of the preparation, such as the fingerprint of the raw files.

    Raises:
      ValueError: The raw files are wrong, or contain no image.
    """
    folder = data_dir / benchmark.name / name / VERSION
    if not folder.exists():
        try:
            with _isolated():
                builder = BenchmarkBuilder(benchmark, raw, data_dir=data_dir, name=name)
                builder.download_and_prepare()
        except OSError:
            # Another process finished first: TFDS cannot rename its folder onto one that is not
            # empty.
            if not folder.exists():
                raise
    return Records(folder)


@contextlib.contextmanager
def _isolated() -> Iterator[None]:
    """Silences TFDS and lets it name its unfinished folder at random.

    It draws the name from Python's global generator, so processes seeded alike would use one.
    """
    verbosity, state = logging.get_verbosity(), random.getstate()
    logging.set_verbosity(logging.ERROR)
    random.seed()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.set_verbosity(verbosity)
        random.setstate(state)
