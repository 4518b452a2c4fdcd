"""DCC: Dublin Cell Counting, 176 images of many cell types, 306 x 322 to 798 x 788."""

from cellcount_jax.datasets.base import Benchmark, Published, by_name, read_cell_dots_pairs
from cellcount_jax.datasets.splits import Protocol

DCC = Benchmark(
    name="dcc",
    title="Dublin Cell Counting",
    ndim=2,
    channels=3,
    dtype="uint8",
    page="https://github.com/markmarsden/DublinCellDataset",
    licence="see its page",
    citation="Marsden et al., People, penguins and Petri dishes, CVPR 2018",
    raw_layout="NAMEcell.png and NAMEdots.png (red == 255 at one pixel per cell)",
    published=Published(176, 34.0, 22.0),
    read=read_cell_dots_pairs,
    protocols=by_name(
        Protocol("dcl", "DCL (MICCAI 2024)", train=88, test=79, validation=9),
        Protocol("sau", "SAU-Net (ACM BCB 2019)", train=100, test=76),
        Protocol("countxplain", "CountXplain (MIDL 2025)", train=100, test=76),
    ),
    default_protocol="dcl",
)
