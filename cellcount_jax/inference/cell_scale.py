"""A known size of cells in place of the estimate that a counter makes of each image."""

import dataclasses
import math

from cellcount_jax.inference.counter import Counter


def with_diameter(counter: Counter, diameter: float | None) -> Counter:
    """The counter for images whose cells are of one known size.

    Args:
      counter: one that was trained on cells of one size resizes every image by it; any other
        comes back as it is.
      diameter: of the images' cells in pixels; None leaves it to the estimate.

    Raises:
      ValueError: a diameter that is not positive.
    """
    if diameter is None:
        return counter
    if not 0 < diameter < math.inf:
        raise ValueError(f"diameter {diameter}: give the cells' diameter in pixels, above 0")
    if counter.cell_diameter is None:
        return counter
    scale = counter.cell_diameter / diameter
    return dataclasses.replace(counter, scale=scale, cell_diameter=None)
