"""The table of benchmarks."""

from cellcount_jax.datasets.base import Benchmark
from cellcount_jax.datasets.published.bbbc050 import BBBC050
from cellcount_jax.datasets.published.chula_rbc12 import CHULA_RBC12
from cellcount_jax.datasets.published.dots_image_sets import ADI, DCC, MBM, VGG_CELLS
from cellcount_jax.datasets.published.dsb2018 import DSB2018, DSB2018_STAINED
from cellcount_jax.datasets.published.idcia import IDCIA
from cellcount_jax.datasets.published.light_sheet import LIGHT_SHEET
from cellcount_jax.datasets.published.usiigaci import USIIGACI

BENCHMARKS: dict[str, Benchmark] = {
    b.name: b
    for b in (
        *(VGG_CELLS, MBM, ADI, DCC, IDCIA, LIGHT_SHEET, BBBC050),
        *(DSB2018, DSB2018_STAINED, USIIGACI, CHULA_RBC12),
    )
}
"""Every benchmark by name."""
