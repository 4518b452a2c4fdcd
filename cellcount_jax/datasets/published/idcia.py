"""IDCIA: immunocytochemistry of hippocampal progenitor cells, 800 x 600, by stain."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from cellcount_jax.data.sample import Sample
from cellcount_jax.datasets.base import (
    Benchmark,
    Published,
    by_name,
    matching_file,
    read_columns,
    read_pixels,
)
from cellcount_jax.datasets.splits import Protocol


def read(folder: Path) -> Iterator[Sample]:
    """Pairs `images/STAIN/NAME.tiff`, `ground_truth/STAIN/NAME.csv`; the group is the stain."""
    for path in sorted((folder / "images").glob("*/*.tif*")):
        stain = path.parent.name
        table = matching_file(folder / "ground_truth" / stain / f"{path.stem}.csv", path)
        image = read_pixels(path, channels=1)
        dots = read_columns(table, ("Y", "X"))
        height, width = image.shape[:2]
        outside = ((dots < -0.5) | (dots >= np.array([height, width]) - 0.5)).any(axis=1)
        if outside.any():
            line, (y, x) = int(outside.argmax()) + 2, dots[outside.argmax()]
            raise ValueError(
                f"{table}, line {line}: dot (y={y:g}, x={x:g}) lies outside the image "
                f"({height} high, {width} wide)"
            )
        yield Sample(f"{stain}/{path.stem}", image, dots, group=stain)


IDCIA = Benchmark(
    name="idcia",
    title="immunocytochemistry of adult hippocampal progenitor cells",
    channels=1,
    page="https://figshare.com/articles/dataset/Dataset/21970604",
    licence="see its page",
    citation="Mohammed et al., IDCIA: immunocytochemistry dataset for cellular image analysis, "
    "ACM MMSys 2023",
    raw_layout="images/STAIN/NAME.tiff and ground_truth/STAIN/NAME.csv (columns X and Y in pixels)",
    published=Published(119, 141.0, 120.0, group="DAPI"),
    read=read,
    protocols=by_name(
        Protocol("countxplain", "CountXplain (MIDL 2025)", train=100, test=19, only=("DAPI",)),
        Protocol(
            "all_stains",
            "every stain split in the same ratio",
            train=100,
            test=19,
            unit="stratified",
        ),
    ),
)
