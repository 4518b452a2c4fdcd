"""VGG synthetic cells: 200 simulated fluorescence images of bacteria, 256 x 256."""

from cellcount_jax.datasets.base import Benchmark, Published, by_name, read_cell_dots_pairs
from cellcount_jax.datasets.splits import Protocol

VGG_CELLS = Benchmark(
    name="vgg_cells",
    title="VGG synthetic fluorescence cells",
    ndim=2,
    channels=3,
    dtype="uint8",
    page="https://www.robots.ox.ac.uk/~vgg/research/counting/",
    archive="https://www.robots.ox.ac.uk/~vgg/research/counting/cells.zip",
    licence="not stated",
    citation="Lempitsky and Zisserman, Learning to count objects in images, NIPS 2010",
    raw_layout="NNNcell.png and NNNdots.png (red == 255 at one pixel per cell)",
    published=Published(200, 174.0, 64.0),
    read=read_cell_dots_pairs,
    protocols=by_name(
        Protocol("dcl", "DCL (MICCAI 2024)", train=100, test=90, validation=10),
        Protocol("sau", "SAU-Net (ACM BCB 2019)", train=64, test=136),
        Protocol("half", "one half to train on, the other to test", train=100, test=100),
        Protocol(
            "consistency",
            "inverse-distance kernel with focal consistency (MOVI 2022)",
            train=100,
            test=100,
            unit="legacy",
            labelled=8,
        ),
    ),
    default_protocol="dcl",
)
