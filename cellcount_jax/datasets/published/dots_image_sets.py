"""Benchmarks whose cells are marked by single pixels of a second image."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from cellcount_jax.data.sample import Sample
from cellcount_jax.datasets.base import (
    Benchmark,
    Published,
    by_name,
    matching_file,
    read_dots_image,
    read_pixels,
)
from cellcount_jax.datasets.splits import Protocol

DCL = "DCL (MICCAI 2024)"
SAU = "SAU-Net (ACM BCB 2019)"
COUNTXPLAIN = "CountXplain (MIDL 2025)"
CONSISTENCY = "inverse-distance kernel with focal consistency (MOVI 2022)"


class Pair(NamedTuple):
    """An image and its dots image."""

    name: str
    image: Path
    dots: Path
    group: str = ""


def read_pairs(
    find: Callable[[Path], Iterator[Pair]], *, threshold: int
) -> Callable[[Path], Iterator[Sample]]:
    """A reader of pairs; pixels of the dots image whose red is above the threshold are cells."""

    def read(folder: Path) -> Iterator[Sample]:
        for pair in find(folder):
            dots_path = matching_file(pair.dots, pair.image)
            image = read_pixels(pair.image, channels=3)
            dots = read_dots_image(dots_path, image, threshold=threshold)
            yield Sample(pair.name, image, dots, group=pair.group)

    return read


def find_cell_dots(folder: Path) -> Iterator[Pair]:
    """`NAMEcell.png`, `NAMEdots.png`."""
    for path in sorted(folder.rglob("*cell.png")):
        name = path.name.removesuffix("cell.png")
        yield Pair(name, path, path.with_name(path.name.replace("cell.png", "dots.png")))


def find_mbm(folder: Path) -> Iterator[Pair]:
    """`SLIDE_NNN.png`, `SLIDE_dots_NNN.png`; the group is the slide."""
    for path in sorted(folder.rglob("*.png")):
        slide, _, number = path.stem.rpartition("_")
        if not slide.endswith("_dots"):
            yield Pair(path.stem, path, path.with_name(f"{slide}_dots_{number}.png"), slide)


def find_adi(folder: Path) -> Iterator[Pair]:
    """`images/NAME.jpeg`, `annotations/NAME.jpeg`; the group is the donor."""
    for path in sorted((folder / "images").glob("*.jp*g")):
        donor = re.search(r"GTEX-[^_]+", path.stem)
        group = donor[0] if donor else path.stem
        yield Pair(path.stem, path, folder / "annotations" / path.name, group)


VGG_CELLS = Benchmark(
    name="vgg_cells",
    title="VGG synthetic fluorescence cells",
    page="https://www.robots.ox.ac.uk/~vgg/research/counting/",
    archive="https://www.robots.ox.ac.uk/~vgg/research/counting/cells.zip",
    licence="not stated",
    citation="Lempitsky and Zisserman, Learning to count objects in images, NIPS 2010",
    raw_layout="NNNcell.png and NNNdots.png (red == 255 at one pixel per cell)",
    published=Published(200, 174.0, 64.0),
    read=read_pairs(find_cell_dots, threshold=254),
    protocols=by_name(
        Protocol("dcl", DCL, train=100, test=90, validation=10),
        Protocol("sau", SAU, train=64, test=136),
        Protocol("half", "one half for training, the other for test", train=100, test=100),
        Protocol("consistency", CONSISTENCY, train=100, test=100, unit="legacy", labelled=8),
    ),
)
"""200 simulated fluorescence images of bacteria, 256 x 256."""

MBM = Benchmark(
    name="mbm",
    title="modified bone marrow, H&E",
    page="https://github.com/ieee8023/countception",
    licence="not stated",
    citation="Kainz et al., You should use regression to detect cells, MICCAI 2015; Cohen et al., "
    "Count-ception, ICCV workshops 2017",
    raw_layout="SLIDE_NNN.png and SLIDE_dots_NNN.png (one set pixel per cell)",
    published=Published(44, 126.0, 33.0),
    read=read_pairs(find_mbm, threshold=0),
    protocols=by_name(
        Protocol("dcl", DCL, train=22, test=20, validation=2),
        Protocol(
            "dcl_by_slide",
            f"{DCL}, with no slide in two splits",
            train=22,
            test=20,
            validation=2,
            unit="group",
        ),
        Protocol("sau", SAU, train=15, test=29),
    ),
)
"""44 H&E crops of 600 x 600 from 11 slides."""

ADI = Benchmark(
    name="adi",
    title="human subcutaneous adipose tissue, H&E",
    page="https://github.com/ieee8023/countception",
    licence="not stated",
    citation="Cohen et al., Count-ception: counting by fully convolutional redundant counting, "
    "ICCV workshops 2017 (images of the GTEx Consortium)",
    raw_layout="images/NAME.jpeg and annotations/NAME.jpeg (red > 127 at one pixel per cell)",
    published=Published(200, 165.0, 44.0),
    # JPEG annotations: marks are bright rather than 255, with ringing around them.
    read=read_pairs(find_adi, threshold=127),
    protocols=by_name(
        Protocol("dcl", DCL, train=100, test=90, validation=10),
        Protocol(
            "dcl_by_donor",
            f"{DCL}, with no donor in two splits",
            train=100,
            test=90,
            validation=10,
            unit="group",
        ),
        Protocol("sau", SAU, train=50, test=150),
    ),
)
"""200 H&E crops of 150 x 150."""

DCC = Benchmark(
    name="dcc",
    title="Dublin Cell Counting",
    page="https://github.com/markmarsden/DublinCellDataset",
    licence="see its page",
    citation="Marsden et al., People, penguins and Petri dishes, CVPR 2018",
    raw_layout="NAMEcell.png and NAMEdots.png (red == 255 at one pixel per cell)",
    published=Published(176, 34.0, 22.0),
    read=read_pairs(find_cell_dots, threshold=254),
    protocols=by_name(
        Protocol("dcl", DCL, train=88, test=79, validation=9),
        Protocol("sau", SAU, train=100, test=76),
        Protocol("countxplain", COUNTXPLAIN, train=100, test=76),
    ),
)
"""176 images of many cell types, 306 x 322 to 798 x 788."""
