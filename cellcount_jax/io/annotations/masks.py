"""Images of dots (a marked pixel per cell) and label masks (a number per cell).

An image of dots is black, or one other colour, with single marked pixels. Marked pixels are
counted, not connected groups of them, since dots may touch. In colour the red channel marks: its
full value in lossless files, above 127 in JPEG. A label mask has one connected patch, or nearly
so, per number.
"""

from typing import NoReturn

import numpy as np
from skimage import measure

from cellcount_jax.io.annotations import base, pixels

# Numbers up to here are counted in a table, which is faster than sorting the pixels.
_MANY = 1 << 24
# Above this share of marked pixels it is no image of dots.
_MAX_MARKED = 0.2


def is_dots_image(source: base.Source) -> bool:
    """An image with single marked pixels; one that is neither kind is an error."""
    return pixels.is_image(source) and source.once(_tell) == "dots_image"


def is_label_mask(source: base.Source) -> bool:
    """An image with a patch per number; one that is neither kind is an error."""
    return pixels.is_image(source) and source.once(_tell) == "label_mask"


def read_dots_image(source: base.Source, options: base.Options) -> base.Found:
    """A dot per marked pixel, in the order of rows."""
    image = source.once(pixels.decode)
    marked = _marked(image)
    if marked.mean() > _MAX_MARKED:
        source.fail(f"is no image of dots: {marked.mean():.0%} of its pixels are marked")
    points = np.argwhere(marked).astype(np.float64)
    return base.Found(
        points, range(1, len(points) + 1), "dot", image_shape=image.values.shape[: marked.ndim]
    )


def read_label_mask(source: base.Source, options: base.Options) -> base.Found:
    """The centre of every cell, in the order of their numbers."""
    image = source.once(pixels.decode)
    if image.colour or image.lossy:
        source.fail("is in colour or JPEG; a label mask has one exact number per pixel")
    numbers = _numbers(source, image.values)
    ids = _ids(numbers)
    if len(ids) == 1 and _patches(numbers) > 1:
        _fail_one_number(source, numbers, int(ids[0]))
    return base.Found(
        centroids(numbers).astype(np.float64), ids.tolist(), "cell", image_shape=numbers.shape
    )


def centroids(mask: np.ndarray) -> np.ndarray:
    """Centres of the cells of a label mask.

    Args:
      mask: [*space] integers, 0 is background, each other number one cell.

    Returns:
      [N, ndim] float32, in pixels, in the order of the numbers.
    """
    where = np.nonzero(mask)
    numbers = mask[where]
    if numbers.size and numbers.max() >= _MANY:
        numbers = np.unique(numbers, return_inverse=True)[1] + 1
    numbers = numbers.astype(np.int64)
    sizes = np.bincount(numbers, minlength=1)
    ids = np.flatnonzero(sizes)
    sums = [np.bincount(numbers, weights=axis)[ids] for axis in where] if len(ids) else []
    centres = [total / sizes[ids] for total in sums] or [np.zeros(0)] * mask.ndim
    return np.stack(centres, axis=1).astype(np.float32)


def write_dots_image(dots: base.Dots, options: base.Options) -> bytes:
    """White pixels on black; coordinates are rounded, scores and labels left out."""
    canvas, where = _canvas(dots, options, np.uint8)
    canvas[where] = 255
    return pixels.encode(canvas, options)


def write_label_mask(dots: base.Dots, options: base.Options) -> bytes:
    """One pixel per dot, numbered in their order; scores and labels are left out."""
    dtype = np.uint16 if len(dots) < 1 << 16 else np.uint32
    canvas, where = _canvas(dots, options, dtype)
    canvas[where] = np.arange(1, len(dots) + 1)
    return pixels.encode(canvas, options)


def _tell(source: base.Source) -> str:
    """`dots_image` or `label_mask`."""
    image = source.once(pixels.decode)
    force = 'Pass format="dots_image" or format="label_mask" if it is one of these'
    if image.colour or image.lossy:
        marked, red = _marked(image), image.values
        red = red[..., 0] if image.colour else red
        rest = red[~marked]
        if image.lossy:  # after a rough or damaged JPEG it is not sure what was marked
            stray = (red > 64) & (red < 192)
        else:
            stray = rest != rest[:1]
        if marked.mean() <= _MAX_MARKED and not stray.any():
            return "dots_image"
        source.fail(f"looks like a photograph, not like an image of dots. {force}")
    numbers = _numbers(source, image.values)
    ids = _ids(numbers)
    patches = _patches(numbers) if len(ids) else 0
    if len(ids) <= 1 and np.count_nonzero(numbers) <= 2 * patches:
        return "dots_image"
    if len(ids) == 1 and (patches > 1 or ids[0] in (255, 65535)):
        _fail_one_number(source, numbers, int(ids[0]))
    if patches > 2 * len(ids):
        source.fail(
            f"is no label mask: {patches} patches for {len(ids)} numbers, "
            f"like a photograph. {force}"
        )
    return "label_mask"


def _fail_one_number(source: base.Source, numbers: np.ndarray, number: int) -> NoReturn:
    source.fail(
        f"marks {np.count_nonzero(numbers)} pixels, all with the number {number}, in "
        f"{_patches(numbers)} patches: touching cells cannot be told apart. Number the cells "
        "(a label mask), or mark one pixel per cell"
    )


def _marked(image: pixels.Pixels) -> np.ndarray:
    """[*space] bool, True at marked pixels."""
    values = image.values[..., 0] if image.colour else image.values
    if image.lossy:
        return values > 127
    if image.colour:
        return values == np.iinfo(values.dtype).max
    top = values.max()
    return (values > 0) & (values >= top / 2)


def _numbers(source: base.Source, values: np.ndarray) -> np.ndarray:
    """[*space] integers of a mask that may be stored as floats or bits."""
    if values.dtype.kind == "b":
        return values.astype(np.uint8)
    if values.dtype.kind == "f":
        if (values != np.rint(values)).any():
            source.fail("holds values that are not whole numbers, so it is no label mask")
        if np.abs(values).max() > 1 << 31:
            source.fail("holds numbers above 2147483648, so it is no label mask")
        values = values.astype(np.int64)
    if values.dtype.kind not in "iu":
        source.fail(f"holds values of type {values.dtype}, not whole numbers")
    if values.dtype.kind == "i" and values.min() < 0:
        source.fail(f"holds the negative number {values.min()}, so it is no label mask")
    return values


def _ids(numbers: np.ndarray) -> np.ndarray:
    """Numbers of the cells, rising."""
    flat = numbers.ravel()
    if flat.max() >= _MANY:
        return np.unique(flat[flat > 0])
    ids = np.flatnonzero(np.bincount(flat.astype(np.int64)))
    return ids[ids > 0]


def _patches(numbers: np.ndarray) -> int:
    """Connected patches of equal numbers, corners connecting."""
    return int(measure.label(numbers, background=0, return_num=True, connectivity=numbers.ndim)[1])


def _canvas(
    dots: base.Dots, options: base.Options, dtype: type[np.generic]
) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    """Black canvas, and the index of each dot's pixel."""
    shape = options.image_shape
    if shape is None or len(shape) != dots.points.shape[1]:
        raise ValueError(
            f"an image of {dots.points.shape[1]}-D dots needs image_shape, "
            f"{dots.points.shape[1]} sides, got {shape}"
        )
    where = np.rint(dots.points).astype(np.int64)
    if ((where < 0) | (where >= shape)).any():
        raise ValueError(f"a dot lies outside the image of shape {tuple(shape)}")
    if len(np.unique(where, axis=0)) < len(where):
        raise ValueError("two dots fall on one pixel, so an image would lose one. Write csv")
    return np.zeros(shape, dtype), tuple(where.T)
