"""Help for tests of regions: features of GeoJSON, and a region as a mask."""

import numpy as np


def whole(region, shape):
    """The region as a mask of the image's size."""
    found = np.zeros(shape, bool)
    found[(..., *region.box)] = region.inside
    return found


def feature(kind, coordinates, **properties):
    geometry = {"type": kind, "coordinates": coordinates}
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def square(x, y, side):
    return [[x, y], [x + side, y], [x + side, y + side], [x, y + side], [x, y]]
