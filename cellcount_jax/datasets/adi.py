"""ADI: human subcutaneous adipose tissue, 200 H&E crops of 150 x 150."""

import re
from collections.abc import Iterator
from pathlib import Path

from cellcount_jax.data.sample import Sample
from cellcount_jax.datasets.base import (
    Benchmark,
    Published,
    by_name,
    matching_file,
    points_from_mask,
    read_pixels,
    same_shape,
)
from cellcount_jax.datasets.splits import Protocol


def read(folder: Path) -> Iterator[Sample]:
    """Pairs in `images` and `annotations`; each pixel with red > 127 is a cell, the group a donor.

    The annotations are JPEG, so that a mark is bright rather than 255; a lower threshold takes in
    the ringing around it.
    """
    for path in sorted((folder / "images").glob("*.jp*g")):
        dots_path = matching_file(folder / "annotations" / path.name, path)
        image = read_pixels(path, "RGB")
        mask = read_pixels(dots_path, "RGB")[..., 0] > 127
        same_shape(dots_path, image, mask)
        donor = re.search(r"GTEX-[^_]+", path.stem)
        yield Sample(
            path.stem, image, points_from_mask(mask), group=donor[0] if donor else path.stem
        )


ADI = Benchmark(
    name="adi",
    title="human subcutaneous adipose tissue, H&E",
    ndim=2,
    channels=3,
    dtype="uint8",
    page="https://github.com/ieee8023/countception",
    licence="not stated",
    citation="Cohen et al., Count-ception: counting by fully convolutional redundant counting, "
    "ICCV workshops 2017 (images of the GTEx Consortium)",
    raw_layout="images/NAME.jpeg and annotations/NAME.jpeg (red > 127 at one pixel per cell)",
    published=Published(200, 165.0, 44.0),
    read=read,
    protocols=by_name(
        Protocol("dcl", "DCL (MICCAI 2024)", train=100, test=90, validation=10),
        Protocol(
            "dcl_by_donor",
            "DCL (MICCAI 2024), with no donor in two parts",
            train=100,
            test=90,
            validation=10,
            unit="group",
        ),
        Protocol("sau", "SAU-Net (ACM BCB 2019)", train=50, test=150),
    ),
    default_protocol="dcl",
)
