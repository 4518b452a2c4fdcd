"""From an image to a count: the trained counter, tiling, detection of points and readout."""
