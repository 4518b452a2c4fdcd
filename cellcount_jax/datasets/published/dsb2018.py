"""Images of the Data Science Bowl 2018 (BBBC038): fluorescent nuclei, and stained tissue."""

import dataclasses
import functools
from collections.abc import Iterator
from pathlib import Path

from cellcount_jax.data.sample import Sample
from cellcount_jax.datasets.base import Benchmark, Published, by_name, read_masked
from cellcount_jax.datasets.splits import Protocol

PAGE = "https://bbbc.broadinstitute.org/BBBC038"
LICENCE = "CC0"
CITATION = (
    "Caicedo et al., Nucleus segmentation across imaging experiments: the 2018 Data Science Bowl, "
    "Nature Methods 2019; image set BBBC038"
)


def read(folder: Path, *, channels: int) -> Iterator[Sample]:
    """Pairs in `images` and `labels`; a dot is the centroid of an instance.

    The laboratories are not named; images of one size, `HEIGHTxWIDTH`, form a group.
    """
    for sample in read_masked(folder, channels=channels):
        height, width = sample.image.shape[:2]
        yield dataclasses.replace(sample, group=f"{height}x{width}")


DSB2018 = Benchmark(
    name="dsb2018",
    title="fluorescence nuclei of many laboratories",
    channels=1,
    page=PAGE,
    licence=LICENCE,
    citation=CITATION,
    raw_layout="images/NAME.png (8-bit grey) and labels/NAME.png (16-bit instances)",
    published=Published(498),
    read=functools.partial(read, channels=1),
    protocols=by_name(
        Protocol(
            "by_size",
            "every group of images of one size split in the same ratio",
            train=350,
            test=98,
            validation=50,
            unit="stratified",
        ),
        Protocol(
            "unseen_size",
            "whole groups of images of one size held out",
            train=350,
            test=98,
            validation=50,
            unit="group",
        ),
    ),
    has_labels=True,
)

DSB2018_STAINED = Benchmark(
    name="dsb2018_stained",
    title="nuclei in stained tissue sections, of the same challenge",
    page=PAGE,
    licence=LICENCE,
    citation=CITATION,
    raw_layout="images/NAME.png (8-bit RGB) and labels/NAME.png (16-bit instances)",
    published=Published(119),
    read=functools.partial(read, channels=3),
    protocols=by_name(
        Protocol(
            "by_size",
            "every group of images of one size split in the same ratio",
            train=71,
            test=36,
            validation=12,
            unit="stratified",
        ),
    ),
    has_labels=True,
)
