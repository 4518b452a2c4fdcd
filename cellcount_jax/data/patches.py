"""Cuts images into patches; each dot belongs to exactly one of them."""

import dataclasses

import numpy as np

from cellcount_jax.data.resize import resize_sample
from cellcount_jax.data.sample import Sample


def cut(
    sample: Sample,
    *,
    tile: int | None = None,
    resize: int | None = None,
    pad_square: bool = False,
    resize_to_multiple: int | None = None,
) -> list[Sample]:
    """Cuts a 2-D image into equal patches; the patches' dots sum to the image's.

    In this order: the shorter side is padded with zeros (bottom or right), the image is resized
    to the nearest multiple, cut into tiles, and each tile is resized.

    Args:
      sample: A 2-D image.
      tile: Side of the square tiles in pixels; None keeps the image whole.
      resize: Side to which each tile (or the image) is resized, in pixels.
      pad_square: Whether to pad to a square first.
      resize_to_multiple: Each side becomes its nearest multiple of this before cutting.

    Returns:
      Patches row by row. The group of a patch is the name of its image, its name is
      `IMAGE@ROW-COLUMN`; an image that stays whole keeps name and group.

    Raises:
      ValueError: The image is a volume, or a side is not a multiple of the tile.

    Source: the patches of DCL (MICCAI 2024).
    """
    if sample.image.ndim != 3:
        raise ValueError(f"{sample.name}: patches are cut from 2-D images, not volumes")
    whole = _pad_square(sample) if pad_square else sample
    if resize_to_multiple:
        height, width = (
            max(1, round(side / resize_to_multiple)) * resize_to_multiple
            for side in whole.image.shape[:2]
        )
        whole = resize_sample(whole, (height, width))
    tiles = _tiles(whole, tile) if tile else [whole]
    return [resize_sample(t, (resize, resize)) for t in tiles] if resize else tiles


def _pad_square(sample: Sample) -> Sample:
    height, width = sample.image.shape[:2]
    side = max(height, width)
    rest = [(0, side - height), (0, side - width)]
    labels = None if sample.labels is None else np.pad(sample.labels, rest)
    return dataclasses.replace(sample, image=np.pad(sample.image, [*rest, (0, 0)]), labels=labels)


def _tiles(sample: Sample, tile: int) -> list[Sample]:
    height, width = sample.image.shape[:2]
    if height % tile or width % tile:
        raise ValueError(
            f"{sample.name}: {height} x {width} cannot be cut into tiles of {tile}; "
            f"use pad_square and resize_to_multiple={tile}"
        )
    if (height, width) == (tile, tile):
        return [sample]
    rows, columns = height // tile, width // tile
    return [_tile(sample, r, c, tile, (rows, columns)) for r in range(rows) for c in range(columns)]


def _tile(sample: Sample, row: int, column: int, tile: int, grid: tuple[int, int]) -> Sample:
    corner = np.array([row, column]) * tile
    window = (slice(corner[0], corner[0] + tile), slice(corner[1], corner[1] + tile))

    def inside(points: np.ndarray | None) -> np.ndarray | None:
        if points is None:
            return None
        # A pixel reaches half a step to both sides of its centre; dots beyond the image's rim
        # belong to the outermost tile.
        owner = np.clip(np.floor((points + 0.5) / tile), 0, np.array(grid) - 1)
        return points[(owner == [row, column]).all(axis=1)] - corner.astype(np.float32)

    return dataclasses.replace(
        sample,
        name=f"{sample.name}@{row}-{column}",
        group=sample.name,
        image=sample.image[window],
        dots=inside(sample.dots),
        not_cells=inside(sample.not_cells),
        labels=None if sample.labels is None else sample.labels[window],
    )
