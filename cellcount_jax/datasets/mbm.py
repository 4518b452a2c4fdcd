"""MBM: modified bone marrow, 44 H&E crops of 600 x 600 from 11 slides."""

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
    read_plane,
    same_shape,
)
from cellcount_jax.datasets.splits import Protocol


def read(folder: Path) -> Iterator[Sample]:
    """Pairs `SLIDE_NNN.png`, `SLIDE_dots_NNN.png`; each set pixel is a cell, the group a slide."""
    for path in sorted(folder.rglob("*.png")):
        slide, _, number = path.stem.rpartition("_")
        if slide.endswith("_dots"):
            continue
        dots_path = matching_file(path.with_name(f"{slide}_dots_{number}.png"), path)
        image = read_pixels(path, "RGB")
        mask = read_plane(dots_path) > 0
        same_shape(dots_path, image, mask)
        yield Sample(path.stem, image, points_from_mask(mask), group=slide)


DCL = "DCL (MICCAI 2024)"

MBM = Benchmark(
    name="mbm",
    title="modified bone marrow, H&E",
    ndim=2,
    channels=3,
    dtype="uint8",
    page="https://github.com/ieee8023/countception",
    licence="not stated",
    citation="Kainz et al., You should use regression to detect cells, MICCAI 2015; Cohen et al., "
    "Count-ception, ICCV workshops 2017",
    raw_layout="SLIDE_NNN.png and SLIDE_dots_NNN.png (one set pixel per cell)",
    published=Published(44, 126.0, 33.0),
    read=read,
    protocols=by_name(
        Protocol("dcl", DCL, train=22, test=20, validation=2),
        Protocol(
            "dcl_by_slide",
            f"{DCL}, with no slide in two parts",
            train=22,
            test=20,
            validation=2,
            unit="group",
        ),
        Protocol("sau", "SAU-Net (ACM BCB 2019)", train=15, test=29),
    ),
    default_protocol="dcl",
)
