"""BBBC050: nuclei of mouse embryos, 3-D confocal, 52 volumes of 11 embryos."""

from collections.abc import Iterator
from pathlib import Path

from cellcount_jax.data.sample import Sample
from cellcount_jax.datasets.base import (
    Benchmark,
    Published,
    by_name,
    centroids,
    matching_file,
    read_volume,
    same_shape,
)
from cellcount_jax.datasets.splits import Protocol

SPACING = (1.75, 0.8, 0.8)
"""Size of a voxel in micrometres, (z, y, x)."""


def read(folder: Path) -> Iterator[Sample]:
    """Pairs in `images` and `labels`; a dot is the centroid of an instance, the group an embryo."""
    for path in sorted((folder / "images").glob("*.tif")):
        labels_path = matching_file(folder / "labels" / path.name, path)
        image = read_volume(path)[..., None]
        labels = read_volume(labels_path)
        same_shape(labels_path, image, labels)
        embryo = path.stem.split("_")[0]
        yield Sample(path.stem, image, centroids(labels), embryo, SPACING, labels)


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
            "seven embryos to train on, one for validation, three to test",
            train=33,
            test=14,
            validation=5,
            unit="group",
        ),
        Protocol(
            "few_labels",
            "eight embryos to train on, their fullest volume labelled, three to test",
            train=38,
            test=14,
            unit="group",
            labelled=1,
            fullest_first=True,
        ),
    ),
    default_protocol="by_embryo",
    has_labels=True,
)
