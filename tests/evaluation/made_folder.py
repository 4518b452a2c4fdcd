"""A counter without a network, and a folder of images on which it is right and wrong."""

from pathlib import Path

import numpy as np
from PIL import Image

from cellcount_jax.inference.readout import Count
from cellcount_jax.io.annotations.dots import Dots, write_dots


class Bright:
    """Finds every pixel of 200 and more, `shift` pixels to the right; halves images."""

    def __init__(self, shift=0.0, *, density=False, points=True, **facts):
        self.shift, self.density, self.points = shift, density, points
        self.facts, self.name = {"radius": 5.0, **facts}, "bright"

    def count(self, image, *, spacing=None):
        points = np.argwhere(image[..., 0] >= 200).astype(np.float32)
        points[:, 1] += self.shift
        density = (image[..., 0] >= 200).astype(np.float32) if self.density else None
        kept = points if self.points else None
        scores = np.ones(len(points), np.float32) if self.points else None
        return Count(float(len(points)), kept, scores, density, {}, scale=0.5)


def image(dots, shape=(32, 40)):
    """Dark with a bright pixel at each dot."""
    pixels = np.full(shape, 20, np.uint8)
    for y, x in dots:
        pixels[y, x] = 255
    return pixels


def make_folder(root: Path) -> Path:
    """Truth: a has 3 of its 4 bright pixels, b all 2 and one more, c none at all."""
    for part in ("images/plate1", "images/plate2", "dots"):
        (root / part).mkdir(parents=True)
    seen = {
        "plate1/a": [(4, 4), (4, 30), (20, 8), (28, 36)],
        "plate1/b": [(8, 8), (16, 20)],
        "plate2/c": [],
    }
    true = {"a": [(4, 4), (4, 30), (20, 8)], "b": [(8, 8), (16, 20), (30, 4)], "c": []}
    for name, dots in seen.items():
        Image.fromarray(image(dots)).save(root / "images" / f"{name}.png")
    for name, dots in true.items():
        found = Dots(np.array(dots, np.float32).reshape(-1, 2), None, None)
        write_dots(root / "dots" / f"{name}.csv", found, format="napari")
    return root
