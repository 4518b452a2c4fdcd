"""The record of one annotated image or volume."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Sample:
    """One image with its dots.

    Attributes:
      name: Name, unique within its dataset; the file's name without its suffix.
      image: Image [H, W, C] or [D, H, W, C] with the file's own dtype and values.
      dots: Positions [N, ndim] float32, (y, x) or (z, y, x) in pixels of `image`, integer = pixel
        centre; None if the image is not labelled.
      group: Name of a group (slide, embryo, laboratory) that may have to stay in one split; for a
        patch, the name of the image it was cut from.
      spacing: Pixel size in micrometres, (y, x) or (z, y, x), if known.
      channel_names: Names of the channels in the image's file, or empty.
      labels: Instance mask of the same space shape, if the publisher provides one.
      not_cells: Places [K, ndim] that a person marked as no cell, in pixels like `dots`.
    """

    name: str
    image: np.ndarray
    dots: np.ndarray | None
    group: str = ""
    spacing: tuple[float, ...] | None = None
    labels: np.ndarray | None = None
    channel_names: tuple[str, ...] = ()
    not_cells: np.ndarray | None = None

    @property
    def count(self) -> int | None:
        """True number of cells: the number of dots, never a map's sum."""
        return None if self.dots is None else len(self.dots)
