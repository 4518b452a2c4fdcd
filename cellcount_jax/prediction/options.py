"""Options of `predict_files`, in a module without heavy imports: the command's help shows them."""

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
"""File suffix of each style of points, and its format in `io.annotations.dots`."""

OnCounted = Callable[[str, "Image", "Count", "Sequence[Region]"], None]


@dataclasses.dataclass(frozen=True)
class Options:
    """What a user can choose for all files of a call.

    Attributes:
      points_style: A style from `POINTS_STYLES`.
      density: Also write density maps: OME-TIFF, or OME-Zarr for images read window by window.
      axes: Letters of the files' axes, such as "ZCYX", in place of their metadata.
      channels: Indices or names of the channels to use.
      voxel_size: Micrometres per pixel, (y, x) or (z, y, x), in place of the files' metadata.
      diameter: Cell diameter in pixels, for models that resize images by it; default: estimated.
      scene: Index of the image in files that hold several, from 0; None counts all, a row each.
      time: Index of the time point in time series, from 0; None counts all, a row each.
      per_slice: Count each plane of a stack as an image of its own, a row each.
      threshold: Threshold of the points, in place of the one that was chosen after training; for
        peaks a fraction of one cell's peak.
      every_column: Whether the table also has columns that are empty throughout.
      normalise: Normalisation (see `Preprocessing`), in place of the model's.
      regions: File of regions, or folder of files named like the images; adds a row per region.
      shard: (i, n) counts files i, i + n, i + 2n, ... into a table of its own, i from 1.
      on_counted: Called with the name, image, count and regions of each file, to draw overlays.
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
            raise ValueError(f"voxel size {sizes}: must be greater than 0, in micrometres")
        if self.threshold is not None and not 0 < self.threshold < math.inf:
            raise ValueError(f"threshold {self.threshold}: must be greater than 0")
        if self.regions is not None and not self.regions.exists():
            raise ValueError(f"{self.regions}: no such file or folder of regions")
        if self.shard is not None and not 1 <= self.shard[0] <= self.shard[1]:
            raise ValueError(f"shard {self.shard[0]}/{self.shard[1]}: give i/n with i from 1 to n")
