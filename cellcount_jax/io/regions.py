"""Regions of an image: label masks, ImageJ's ROIs, QuPath's GeoJSON annotations.

In outlines, integers are corners of pixels, as ImageJ (areas) and QuPath have them. A pixel belongs
to an outline if its centre lies inside; a centre on a border that two outlines share belongs to one
of them. Where an even number of rings overlap, there is a hole.
"""

import collections
import dataclasses
import logging
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy import ndimage

from cellcount_jax.io.annotations import base, geojson, imagej_roi
from cellcount_jax.io.images.image import read_image
from cellcount_jax.io.pairing import stem
from cellcount_jax.runtime.path_text import cell_text

log = logging.getLogger(__name__)

OUTSIDE = "outside"
"""Name of the area that no region covers; no region has it."""

EXTENSIONS = (".roi", ".zip", ".geojson", ".json", ".tif", ".tiff", ".png", ".npy")

_MAX_DENSE_LABEL = 1 << 20
_REGION_SUFFIX = re.compile(r"[_.\- ](regions?|annotations?)$", re.I)

Shape = Sequence[int]


@dataclasses.dataclass(frozen=True, eq=False)
class Region:
    """A named part of an image.

    Attributes:
      name: Unique among the regions of an image.
      corner: Position of the first pixel of `inside` in the image, per axis of `inside`.
      inside: Boolean, True in the region. With two axes in a volume it extends through all planes.
    """

    name: str
    corner: tuple[int, ...]
    inside: np.ndarray

    @property
    def box(self) -> tuple[slice, ...]:
        """Position of `inside` in the image, along its own axes."""
        return tuple(slice(c, c + n) for c, n in zip(self.corner, self.inside.shape, strict=True))


def regions_of(place: Path, image: Path, shape: Shape) -> list[Region]:
    """Regions of an image; none, which is logged, if `place` holds no file for it.

    Args:
      place: See `find_regions_file`.
      image: File of the image.
      shape: See `read_regions`.

    Raises:
      ValueError: See both.
    """
    path = find_regions_file(place, image)
    if path is None:
        log.warning("%s: no file of regions in %s; counted as a whole", image, place)
        return []
    return read_regions(path, shape)


def find_regions_file(place: Path, image: Path) -> Path | None:
    """File with the regions of an image.

    Args:
      place: A file, used for every image, or a folder of files named like the images
        (`a.geojson`, `a.tif.geojson`, `a_RoiSet.zip`, `a_regions.png`, `a_mask.tif` for `a.tif`).
      image: File of the image.

    Returns:
      None if the folder has no file for it.

    Raises:
      ValueError: `place` is missing, or holds several files for the image.
    """
    if place.is_file():
        return place
    if not place.is_dir():
        raise ValueError(f"{place}: no such file or folder of regions")
    wanted = stem(image)
    found = [
        path
        for path in sorted(place.iterdir())
        if path.suffix.lower() in EXTENSIONS
        and not path.name.startswith(".")
        and wanted in _stems(path)
        and not (path.exists() and image.exists() and path.samefile(image))
    ]
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise ValueError(f"{image}: more than one file of regions in {place} ({names}); keep one")
    return found[0] if found else None


def _stems(path: Path) -> set[str]:
    """Stems that an image of this file may have: `a` and, of `a.tif.geojson`, `a` of `a.tif`."""
    names = {stem(path), stem(Path(path.stem))}
    return names | {_REGION_SUFFIX.sub("", name) for name in names}


def read_regions(path: Path, shape: Shape) -> list[Region]:
    """Reads the regions of an image; the format is detected from the content.

    Args:
      path: A label mask (one number per region, 0 outside), an ImageJ `.roi` or RoiSet `.zip`, or
        GeoJSON polygons. Outlines extend through all planes of a volume.
      shape: Shape of the image without channels, (H, W) or (D, H, W).

    Returns:
      Regions with unique names, in the order of the file; those of a mask are named by their
      numbers.

    Raises:
      ValueError: The file cannot be read, fits another image, or holds no area; one line.
    """
    start = b"" if path.is_dir() else _start(path)
    if not start.startswith((b"Iout", b"PK\x03\x04", b"PK\x05\x06", b"{", b"[")):
        return _from_mask(path, shape)
    file = base.AnnotationFile(str(path), path.read_bytes())
    outlines = (geojson if file.kind == "json" else imagej_roi).read_outlines(file)
    kept = [(name, rings) for name, rings in outlines if rings is not None]
    if not kept:
        file.fail("holds no area; draw regions as polygons, rectangles or ovals")
    if len(kept) < len(outlines):
        left_out = len(outlines) - len(kept)
        log.warning("%s: %d points or lines are not regions and are left out", path, left_out)
    names = _unique([cell_text(name) for name, _ in kept])
    regions = [fill(name, rings, shape) for name, (_, rings) in zip(names, kept, strict=True)]
    for region in regions:
        if not region.inside.any():
            log.warning("%s: region %s covers no pixel of the image", path, region.name)
    return regions


def fill(name: str, rings: Sequence[np.ndarray], shape: Shape) -> Region:
    """The region within outlines.

    Args:
      name: Name of the region.
      rings: [M, 2] (y, x) each, closed or open; integers are corners of pixels. They are cropped
        to the image.
      shape: Shape of the image without channels; its last two axes are filled.
    """
    size = np.array(shape[-2:])
    points = np.concatenate(rings)
    low = np.clip(np.floor(points.min(axis=0)), 0, size).astype(int)
    high = np.clip(np.ceil(points.max(axis=0)), low, size).astype(int)
    height, width = (high - low).tolist()
    # From the upper to the lower end, so that a side of two outlines is the same in both.
    ends = np.concatenate([np.stack([ring, np.roll(ring, -1, axis=0)], axis=1) for ring in rings])
    upwards = ends[:, 0, 0] > ends[:, 1, 0]
    ends[upwards] = ends[upwards, ::-1]
    first, stop = np.clip(np.ceil(ends[:, :, 0] - 0.5), low[0], high[0]).astype(int).T
    edge = np.repeat(np.arange(len(ends)), stop - first)
    row = np.arange(len(edge)) - np.repeat(np.cumsum(stop - first) - stop + first, stop - first)
    row += first[edge]
    (y0, x0), (y1, x1) = ends[edge, 0].T, ends[edge, 1].T
    crossing = x0 + (row + 0.5 - y0) * (x1 - x0) / (y1 - y0)
    column = np.clip(np.ceil(crossing - 0.5), low[1], high[1]).astype(int)
    # Each crossing toggles inside and outside for all pixels to its right.
    toggles = np.zeros((height, width + 1), np.uint8)
    np.bitwise_xor.at(toggles, (row - low[0], column - low[1]), np.uint8(1))
    np.bitwise_xor.accumulate(toggles, axis=1, out=toggles)
    return Region(name, (int(low[0]), int(low[1])), toggles[:, :-1].view(bool))


def _start(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(256).lstrip(b"\xef\xbb\xbf \t\r\n")


def _unique(names: Sequence[str]) -> list[str]:
    """Makes names unique and different from `OUTSIDE`."""
    taken = collections.Counter([OUTSIDE])
    unique = []
    for name in names:
        chosen = name
        while taken[chosen]:
            taken[name] += 1
            chosen = f"{name} ({taken[name]})"
        taken[chosen] += 1
        unique.append(chosen)
    return unique


def _from_mask(path: Path, shape: Shape) -> list[Region]:
    values = read_image(path, stored=True).pixels
    if values.shape[-1] != 1:
        raise ValueError(f"{path}: is in colour; a mask of regions has one number per pixel")
    mask = values[..., 0]
    if mask.shape not in (tuple(shape), tuple(shape[-2:])):
        sides, wanted = (" x ".join(map(str, s)) for s in (mask.shape, shape))
        raise ValueError(f"{path}: a mask of {sides} pixels does not fit an image of {wanted}")
    if mask.dtype.kind == "f" and (mask != np.rint(mask)).any():
        raise ValueError(f"{path}: holds values that are not whole numbers, so it is not a mask")
    if mask.min() < 0:
        raise ValueError(f"{path}: holds a number below 0, so it is not a mask")
    ids = None
    if mask.dtype.kind == "f" or mask.max() > _MAX_DENSE_LABEL:
        ids, mask = np.unique(mask, return_inverse=True)
        if ids[0] > 0:  # nothing is outside
            ids, mask = np.concatenate([[0], ids]), mask + 1
    mask = mask.astype(np.uint8) if mask.dtype == bool else mask
    boxes = ndimage.find_objects(mask)
    regions = [
        Region(
            str(number if ids is None else int(ids[number])),
            tuple(side.start for side in box),
            mask[box] == number,
        )
        for number, box in enumerate(boxes, 1)
        if box is not None
    ]
    if not regions:
        raise ValueError(f"{path}: the mask is 0 everywhere; give each region a number")
    return regions
