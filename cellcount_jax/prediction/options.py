"""Options of `predict_files`, in a module that imports nothing heavy: the command shows them."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cellcount_jax.inference.readout import Count
    from cellcount_jax.io.images.image import Image
    from cellcount_jax.io.regions import Region

POINTS_STYLES = {
    "plain": (".csv", None),
    "napari": (".csv", "napari"),
    "fiji": (".zip", "roi_zip"),
    "qupath": (".geojson", "geojson"),
    "cell_counter": (".xml", "cell_counter"),
}
"""Suffix of each style of points, and its format in `io.annotations.dots`."""

OnCounted = Callable[[str, "Image", "Count", "Sequence[Region]"], None]


@dataclasses.dataclass(frozen=True)
class Options:
    """What a user may choose for all files of a call.

    Attributes:
      points_style: of `POINTS_STYLES`.
      density: also write density maps: OME-TIFF, or OME-Zarr for images read window by window.
      axes: letters of the files' axes, such as "ZCYX", in place of what they say.
      channels: indices or names of the channels to use.
      voxel_size: micrometres per pixel, (y, x) or (z, y, x), in place of what the files say.
      diameter: of a cell in pixels, for models that resize images by it; else it is estimated.
      scene: which image of files that hold several, from 0; None counts all, a row for each.
      time: which time point of series, from 0; None counts all, a row for each.
      per_slice: count each plane of a stack as an image of its own, a row for each.
      threshold: of the model's points, in place of the one that was chosen after training; for
        peaks a share of one cell's peak.
      every_column: the table has columns that are empty throughout, too.
      normalise: of `Preprocessing`, in place of the model's.
      regions: file of regions, or folder of files named like the images: rows of regions, too.
      shard: (i, n) counts the files i, i + n, i + 2n, ... into a table of its own, i from 1.
      on_counted: called with the name, image, count and regions of each file, to draw overlays.
    """

    points_style: str = "plain"
    density: bool = False
    axes: str | None = None
    channels: Sequence[int | str] | None = None
    voxel_size: Sequence[float] | None = None
    diameter: float | None = None
    scene: int | None = None
    time: int | None = None
    per_slice: bool = False
    threshold: float | None = None
    every_column: bool = False
    normalise: str | None = None
    regions: Path | None = None
    shard: tuple[int, int] | None = None
    on_counted: OnCounted | None = None

    def __post_init__(self) -> None:
        if self.points_style not in POINTS_STYLES:
            known = ", ".join(POINTS_STYLES)
            raise ValueError(f"unknown points style {self.points_style!r}; choose one of {known}")
        sizes = self.voxel_size
        if sizes is not None and not all(0 < s < math.inf for s in sizes):
            raise ValueError(f"voxel size {sizes}: micrometres greater than 0 are needed")
        if self.threshold is not None and not 0 < self.threshold < math.inf:
            raise ValueError(f"threshold {self.threshold}: a number greater than 0 is needed")
        if self.regions is not None and not self.regions.exists():
            raise ValueError(f"{self.regions}: no such file or folder of regions")
        if self.shard is not None and not 1 <= self.shard[0] <= self.shard[1]:
            raise ValueError(f"shard {self.shard[0]}/{self.shard[1]}: give i/n with i from 1 to n")
