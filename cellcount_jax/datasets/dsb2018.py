"""Fluorescence nuclei of the Data Science Bowl 2018 (BBBC038), 498 images of many sizes."""

from collections.abc import Iterator
from pathlib import Path

from cellcount_jax.data.sample import Sample
from cellcount_jax.datasets.base import (
    Benchmark,
    Published,
    by_name,
    centroids,
    matching_file,
    read_pixels,
    read_plane,
    same_shape,
)
from cellcount_jax.datasets.splits import Protocol


def read(folder: Path) -> Iterator[Sample]:
    """Pairs in `images` and `labels`; a dot is the centroid of an instance.

    The laboratories are not named; images of one size, `HEIGHTxWIDTH`, make a group.
    """
    for path in sorted((folder / "images").glob("*.png")):
        labels_path = matching_file(folder / "labels" / path.name, path)
        image = read_pixels(path, "L")
        labels = read_plane(labels_path)
        same_shape(labels_path, image, labels)
        size = f"{image.shape[0]}x{image.shape[1]}"
        yield Sample(path.stem, image, centroids(labels), size, labels=labels)


DSB2018 = Benchmark(
    name="dsb2018",
    title="fluorescence nuclei of many laboratories",
    ndim=2,
    channels=1,
    dtype="uint8",
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
            "every group of images of one size divided alike",
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
    default_protocol="by_size",
    has_labels=True,
)
