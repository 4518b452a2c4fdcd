"""Nuclei of the cleared mouse cortex by light-sheet microscopy (NuMorph): volumes."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from cellcount_jax.data.sample import Sample
from cellcount_jax.datasets.base import (
    Benchmark,
    Published,
    by_name,
    centroids,
    read_volume,
    same_shape,
)
from cellcount_jax.datasets.idcia import read_columns
from cellcount_jax.datasets.splits import Protocol

PARTS = ("train", "test", "unlabelled")


def read(folder: Path) -> Iterator[Sample]:
    """Volumes in `PART/images`, with masks in `PART/labels` or tables in `PART/dots`.

    The group of a volume is its part. Only volumes of the part `unlabelled` may come without dots.
    """
    for part in PARTS:
        for path in sorted((folder / part / "images").glob("*.tif*")):
            image = read_volume(path)
            dots, labels = _annotation(folder / part, path, image)
            if dots is None and part != "unlabelled":
                raise ValueError(
                    f"{path}: neither {part}/labels/{path.name} nor {part}/dots/{path.stem}.csv"
                )
            name = f"{part}/{path.stem}"
            yield Sample(name, image[..., None], dots, group=part, labels=labels)


def _annotation(
    folder: Path, path: Path, image: np.ndarray
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Dots and instance mask of a volume, as far as there are any."""
    mask_path = folder / "labels" / path.name
    table = folder / "dots" / f"{path.stem}.csv"
    labels = None
    if mask_path.exists():
        labels = read_volume(mask_path)
        same_shape(mask_path, image[..., None], labels)
    if table.exists():
        return read_columns(table, ("z", "y", "x")), labels
    return (None if labels is None else centroids(labels)), labels


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
    default_protocol="consistency",
    has_labels=True,
)
