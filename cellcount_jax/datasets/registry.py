"""The table of benchmarks."""

from cellcount_jax.datasets.base import Benchmark
from cellcount_jax.datasets.bbbc050 import BBBC050
from cellcount_jax.datasets.dots_image_sets import ADI, DCC, MBM, VGG_CELLS
from cellcount_jax.datasets.dsb2018 import DSB2018
from cellcount_jax.datasets.idcia import IDCIA
from cellcount_jax.datasets.light_sheet import LIGHT_SHEET

BENCHMARKS: dict[str, Benchmark] = {
    b.name: b for b in (VGG_CELLS, MBM, ADI, DCC, IDCIA, LIGHT_SHEET, BBBC050, DSB2018)
}
"""Every benchmark by name."""
