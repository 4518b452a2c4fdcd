"""Usiigaci: T98G glioblastoma cells in phase contrast, 50 images."""

import functools

from cellcount_jax.datasets.base import Benchmark, Published, by_name, read_masked
from cellcount_jax.datasets.splits import Protocol

USIIGACI = Benchmark(
    name="usiigaci",
    title="T98G cells in phase contrast",
    channels=1,
    page="https://github.com/oist/Usiigaci",
    licence="MIT",
    citation="Tsai et al., Usiigaci: Instance-aware cell tracking in stain-free phase contrast "
    "microscopy enabled by machine learning, SoftwareX 2019",
    raw_layout="images/NAME.png (8-bit grey) and labels/NAME.png (16-bit instances)",
    published=Published(50),
    read=functools.partial(read_masked, channels=1),
    protocols=by_name(
        Protocol("random", "images at random", train=30, test=15, validation=5),
    ),
    has_labels=True,
)
