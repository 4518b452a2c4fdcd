"""Fluorescence nuclei of the Data Science Bowl 2018 (BBBC038), 498 images of many sizes."""

from collections.abc import Iterator
from pathlib import Path

from cellcount_jax.data.sample import Sample
from cellcount_jax.datasets.base import (
    Benchmark,
    Published,
    by_name,
    matching_file,
    read_labels,
    read_pixels,
)
from cellcount_jax.datasets.splits import Protocol
from cellcount_jax.io.annotations.centroids import label_centroids


def read(folder: Path) -> Iterator[Sample]:
    """Pairs in `images` and `labels`; a dot is the centroid of an instance.

    The laboratories are not named; images of one size, `HEIGHTxWIDTH`, form a group.
    """
    for path in sorted((folder / "images").glob("*.png")):
        labels_path = matching_file(folder / "labels" / path.name, path)
        image = read_pixels(path, channels=1)
        labels = read_labels(labels_path, image)
        size = f"{image.shape[0]}x{image.shape[1]}"
        yield Sample(path.stem, image, label_centroids(labels), size, labels=labels)


DSB2018 = Benchmark(
    name="dsb2018",
    title="fluorescence nuclei of many laboratories",
    channels=1,
    page="https://bbbc.broadinstitute.org/BBBC038",
    licence="CC0",
    citation="Caicedo et al., Nucleus segmentation across imaging experiments: the 2018 Data "
    "Science Bowl, Nature Methods 2019; image set BBBC038",
    raw_layout="images/NAME.png (8-bit grey) and labels/NAME.png (16-bit instances)",
    published=Published(498),
    read=read,
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
