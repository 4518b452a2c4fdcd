"""BBBC050: nuclei of mouse embryos, 3-D confocal, 52 volumes of 11 embryos."""

from collections.abc import Iterator
from pathlib import Path

from cellcount_jax.data.sample import Sample
from cellcount_jax.datasets.base import (
    Benchmark,
    Published,
    by_name,
    matching_file,
    read_labels,
    read_volume,
)
from cellcount_jax.datasets.splits import Protocol
from cellcount_jax.io.annotations.centroids import label_centroids

SPACING = (1.75, 0.8, 0.8)
"""Voxel size in micrometres, (z, y, x)."""


def read(folder: Path) -> Iterator[Sample]:
    """Pairs in `images` and `labels`; a dot is the centroid of an instance, the group an embryo."""
    for path in sorted((folder / "images").glob("*.tif")):
        labels_path = matching_file(folder / "labels" / path.name, path)
        image = read_volume(path)
        labels = read_labels(labels_path, image)
        embryo = path.stem.split("_")[0]
        yield Sample(path.stem, image, label_centroids(labels), embryo, SPACING, labels)


BBBC050 = Benchmark(
    name="bbbc050",
    title="nuclei of mouse embryos, confocal volumes",
    ndim=3,
    channels=1,
    dtype="uint16",
    page="https://bbbc.broadinstitute.org/BBBC050",
    licence="CC BY 3.0",
    citation="Tokuoka et al., 3D convolutional neural networks-based segmentation to acquire "
    "quantitative criteria of the nucleus during mouse embryogenesis, npj Syst. Biol. Appl. 2020; "
    "image set BBBC050 of the Broad Bioimage Benchmark Collection",
    raw_layout="images/EmbNN_tTTT.tif and labels/EmbNN_tTTT.tif (instances)",
    published=Published(52),
    read=read,
    protocols=by_name(
        Protocol(
            "by_embryo",
            "seven embryos for training, one for validation, three for test",
            train=33,
            test=14,
            validation=5,
            unit="group",
        ),
        Protocol(
            "few_labels",
            "eight embryos for training, of which only the volume with most nuclei is labelled, "
            "three for test",
            train=38,
            test=14,
            unit="group",
            labelled=1,
            fullest_first=True,
        ),
    ),
    has_labels=True,
)
