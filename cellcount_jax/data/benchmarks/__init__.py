"""The table of benchmark data sets, one file each."""

from cellcount_jax.data.benchmarks.adi import ADI
from cellcount_jax.data.benchmarks.base import Benchmark
from cellcount_jax.data.benchmarks.bbbc050 import BBBC050
from cellcount_jax.data.benchmarks.dcc import DCC
from cellcount_jax.data.benchmarks.dsb2018 import DSB2018
from cellcount_jax.data.benchmarks.idcia import IDCIA
from cellcount_jax.data.benchmarks.light_sheet import LIGHT_SHEET
from cellcount_jax.data.benchmarks.mbm import MBM
from cellcount_jax.data.benchmarks.vgg_cells import VGG_CELLS

BENCHMARKS: dict[str, Benchmark] = {
    b.name: b for b in (VGG_CELLS, MBM, ADI, DCC, IDCIA, LIGHT_SHEET, BBBC050, DSB2018)
}
"""Every benchmark by name."""
