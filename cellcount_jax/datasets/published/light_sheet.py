"""Nuclei of the cleared mouse cortex by light-sheet microscopy (NuMorph): volumes."""

from collections.abc import Iterator
from pathlib import Path

from cellcount_jax.data.sample import Sample
from cellcount_jax.datasets.base import (
    Benchmark,
    Published,
    by_name,
    read_columns,
    read_labels,
    read_volume,
)
from cellcount_jax.datasets.splits import Protocol
from cellcount_jax.io.annotations.centroids import label_centroids

GROUPS = ("train", "test", "unlabelled")


def read(folder: Path) -> Iterator[Sample]:
    """Volumes in `GROUP/images`, with masks in `GROUP/labels` or tables in `GROUP/dots`.

    Only volumes of the group `unlabelled` may come without dots.
    """
    for group in GROUPS:
        for path in sorted((folder / group / "images").glob("*.tif*")):
            image = read_volume(path)
            labels_path = folder / group / "labels" / path.name
            table = folder / group / "dots" / f"{path.stem}.csv"
            labels = read_labels(labels_path, image) if labels_path.exists() else None
            dots = None if labels is None else label_centroids(labels)
            if table.exists():
                dots = read_columns(table, ("z", "y", "x"))
            if dots is None and group != "unlabelled":
                raise ValueError(
                    f"{path}: neither {group}/labels/{path.name} nor {group}/dots/{table.name}"
                )
            yield Sample(f"{group}/{path.stem}", image, dots, group=group, labels=labels)


CONSISTENCY = "inverse-distance kernel with focal consistency (MOVI 2022)"

LIGHT_SHEET = Benchmark(
    name="light_sheet",
    title="nuclei of the mouse cortex, light-sheet volumes",
    ndim=3,
    channels=1,
    dtype="uint16",
    page="https://pmc.ncbi.nlm.nih.gov/articles/PMC8530274",
    licence="see its page",
    citation="Krupa et al., NuMorph: tools for cortical cellular phenotyping in tissue-cleared "
    "whole-brain images, Cell Reports 2021",
    raw_layout="{train,test}/images/NAME.tif with labels/NAME.tif (instances) or dots/NAME.csv "
    "(columns z, y, x) beside images, and unlabelled/images/NAME.tif",
    published=Published(21, 861.0, 256.0),
    read=read,
    protocols=by_name(
        Protocol(
            "consistency",
            f"{CONSISTENCY}: one labelled volume",
            train=16,
            test=5,
            unit="published",
            labelled=1,
            rest_unlabelled=False,
        ),
        Protocol("supervised", "all labelled volumes", train=16, test=5, unit="published"),
    ),
    has_labels=True,
)
