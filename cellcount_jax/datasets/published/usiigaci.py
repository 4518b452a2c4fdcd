"""Usiigaci: T98G glioblastoma cells in phase contrast, 50 images."""

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
    """Pairs in `images` and `labels`; a dot is the centroid of an instance."""
    for path in sorted((folder / "images").glob("*.png")):
        labels_path = matching_file(folder / "labels" / path.name, path)
        image = read_pixels(path, channels=1)
        labels = read_labels(labels_path, image)
        yield Sample(path.stem, image, label_centroids(labels), labels=labels)


USIIGACI = Benchmark(
    name="usiigaci",
    title="T98G cells in phase contrast",
    channels=1,
    page="https://github.com/oist/Usiigaci",
    licence="MIT",
    citation="Tsai et al., Usiigaci: Instance-aware cell tracking in stain-free phase contrast "
    "microscopy enabled by machine learning, SoftwareX 2019",
    raw_layout="images/NAME.png (8-bit grey) and labels/NAME.png (16-bit instances)",
    published=Published(50),
    read=read,
    protocols=by_name(
        Protocol("random", "images at random", train=30, test=15, validation=5),
    ),
    has_labels=True,
)
