"""Rows of the regions of an image, below its own row."""

from collections.abc import Sequence

import numpy as np

from cellcount_jax.data.resize import Box, Scale
from cellcount_jax.inference.readout import Count, TakeDensity
from cellcount_jax.inference.region_counts import (
    RegionRow,
    count_regions,
    density_sums,
    union,
)
from cellcount_jax.io.regions import Region, Shape
from cellcount_jax.prediction.counts_csv import CsvRow


class RegionRows:
    """Rows of one image: the density is summed during counting, the rows are made afterwards.

    Args:
      regions: Regions of the image; may be empty.
      shape: Shape of the image without channels.
    """

    def __init__(self, regions: Sequence[Region], shape: Shape):
        self.regions, self._shape = regions, tuple(shape)
        # The union is summed with the regions; without regions nothing is kept.
        self._all = [*regions, union(regions, shape)] if regions else []
        self._sums: np.ndarray | None = None

    def open_density(self, whole: tuple[int, ...], scale: Scale) -> TakeDensity:
        """Sums the density of an image that is counted window by window; see `OpenDensity`."""
        sums = self._sums = np.zeros(len(self._all))

        def take(box: Box, values: np.ndarray) -> None:
            nonlocal sums
            sums += density_sums(values, self._all, self._shape, scale=scale, box=box, whole=whole)

        return take

    def rows(self, row: CsvRow, found: Count) -> list[CsvRow]:
        """The image's own row, one per region, and one for the rest of the image."""
        if not self.regions:
            return [row]
        sizes = [row.get(f"spacing_{axis}") or None for axis in "zyx"[3 - len(self._shape) :]]
        parts = count_regions(
            found,
            self.regions,
            self._shape,
            spacing=None if None in sizes else [float(str(size)) for size in sizes],
            sums=self._sums,
            covered=self._all[-1],
        )
        return [row | {"roi": ""}, *(row | part | _rounded(part) for part in parts)]


def _rounded(part: RegionRow) -> CsvRow:
    """Counts to six decimals: the rows of an image still add up to its count."""
    values = {key: part[key] for key in ("count", "density_sum")}
    return {k: round(v, 6) + 0.0 if isinstance(v, float) else v for k, v in values.items()}
