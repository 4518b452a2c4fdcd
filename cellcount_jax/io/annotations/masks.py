"""Images of dots (a marked pixel per cell) and label masks (a number per cell).

An image of dots is black, or one other colour, with single marked pixels. Marked pixels are
counted, not connected groups of them, since dots may touch. In colour the red channel marks: its
full value in lossless files, above 127 in JPEG. A label mask has one connected patch, or nearly
so, per number. Cellpose's `_seg.npy` is a pickled dictionary of arrays, of which `masks` is read.
"""

import dataclasses
import io
import re
from typing import Any, NoReturn

import numpy as np
import PIL.Image
import tifffile
from skimage import measure

from cellcount_jax.io import safe_pickle
from cellcount_jax.io.annotations import base
from cellcount_jax.io.annotations.centroids import MAX_TABLE_LABEL, label_centroids
from cellcount_jax.io.images.image import ImageError, read_stored
from cellcount_jax.io.images.registry import image_format

_NUMERIC_TYPE = re.compile(r"[biuf][1248]|bool")
MAX_CLASSES = 4096
MAX_SEGMENTED = 16
"""Numbers of a segmentation into classes; more are cells, or the grey values of an image."""

MAX_CELL_SHARE = 0.25
"""In a mask without zeros, a number with a larger fraction of the pixels is the background."""

_MAX_MARKED_SHARE = 0.2
"""Maximum fraction of marked pixels in an image of dots."""


@dataclasses.dataclass(frozen=True, eq=False)
class Pixels:
    """Pixels of a file: [*space] or, in colour, [*space, 3]; lossy if it is a JPEG."""

    values: np.ndarray
    colour: bool
    lossy: bool


def detect(file: base.AnnotationFile) -> str:
    """`dots_image` or `label_mask`; an image that is neither is an error."""
    image = file.once(_read_pixels)
    advice = (
        "If it is one of these, save it as such: white pixels on black, or a number per cell on 0 "
        '(in Python: format="dots_image" or format="label_mask")'
    )
    if image.colour or image.lossy:
        marked, red = _marked(image), image.values
        red = red[..., 0] if image.colour else red
        rest = red[~marked]
        if image.lossy:  # after strong or damaged compression it is not certain what was marked
            stray = (red > 64) & (red < 192)
        else:
            stray = rest != rest[:1]
        if marked.mean() <= _MAX_MARKED_SHARE and not stray.any():
            return "dots_image"
        file.fail(f"looks like a photograph, not like an image of dots. {advice}")
    labels, ids = file.once(_labels)
    if 1 < len(ids) <= MAX_SEGMENTED:
        _check_background(file, labels, ids)
    patches = _count_patches(labels) if len(ids) else 0
    if len(ids) <= 1 and np.count_nonzero(labels) <= 2 * patches:
        return "dots_image"
    if len(ids) == 1 and (patches > 1 or ids[0] in (255, 65535)):
        _fail_one_number(file, labels, int(ids[0]))
    if patches > 2 * len(ids):
        file.fail(
            f"is not a label mask: {patches} patches for {len(ids)} numbers, "
            f"like a photograph. {advice}"
        )
    return "label_mask"


def read_dots_image(file: base.AnnotationFile, options: base.Options) -> base.RawDots:
    """A dot per marked pixel, in the order of rows."""
    image = file.once(_read_pixels)
    marked = _marked(image)
    if marked.mean() > _MAX_MARKED_SHARE:
        file.fail(f"is not an image of dots: {marked.mean():.0%} of its pixels are marked")
    points = np.argwhere(marked).astype(np.float64)
    return base.RawDots(points, range(1, len(points) + 1), "dot", image_shape=marked.shape)


def read_label_mask(file: base.AnnotationFile, options: base.Options) -> base.RawDots:
    """The centre of every cell, in the order of their numbers."""
    image = file.once(_read_pixels)
    if image.colour or image.lossy:
        file.fail("is in colour or JPEG; a label mask has one exact number per pixel")
    labels, ids = file.once(_labels)
    if len(ids) == 1 and _count_patches(labels) > 1:
        _fail_one_number(file, labels, int(ids[0]))
    _check_background(file, labels, ids)
    points = label_centroids(labels).astype(np.float64)
    return base.RawDots(points, ids.tolist(), "cell", image_shape=labels.shape)


def write_dots_image(dots: base.Dots, options: base.Options) -> bytes:
    """White pixels on black; coordinates are rounded, scores and labels left out."""
    canvas, where = _canvas(dots, options, np.uint8)
    canvas[where] = 255
    return _encode(canvas, options)


def write_label_mask(dots: base.Dots, options: base.Options) -> bytes:
    """One pixel per dot, numbered in their order; scores and labels are left out."""
    dtype = np.uint16 if len(dots) < 1 << 16 else np.uint32
    canvas, where = _canvas(dots, options, dtype)
    canvas[where] = np.arange(1, len(dots) + 1)
    return _encode(canvas, options)


def _read_pixels(file: base.AnnotationFile) -> Pixels:
    """Pixels of a file; a damaged one is an error."""
    format = image_format(file.data[:16])
    position = _pickle_position(file) if format == "NPY" else None
    if position is not None:
        values, axes = _read_cellpose(file, position), ""
    else:
        try:
            values, axes = read_stored(file.path)
        except ImageError as error:
            raise ValueError(str(error)) from error
    colour = axes.endswith("S") and values.shape[-1] in (3, 4)
    if colour:
        values = values[..., :3]  # transparency marks nothing
    elif values.ndim > 2 and values.shape[-1] == 1 and (axes.endswith("S") or not axes):
        values = values[..., 0]  # one channel; arrays of deep learning have such an axis, too
    space = values.shape[: values.ndim - colour]
    if axes and len(space) > 2:  # axes of length 1, such as time and channel
        kept = tuple(side for side in space if side > 1)
        space = kept if len(kept) >= 2 else space[-2:]
        values = values.reshape(*space, 3) if colour else values.reshape(space)
    if len(space) not in (2, 3) or not values.size:
        file.fail(f"has shape {values.shape}; dots and masks are 2-D or 3-D")
    if values.dtype.kind not in ("u" if colour else "buif"):
        file.fail(f"holds values of type {values.dtype}; save integers, colours as 8 or 16 bits")
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        file.fail("holds values that are not finite")
    return Pixels(values, colour, lossy=format == "JPEG")


def _pickle_position(file: base.AnnotationFile) -> int | None:
    """Where the pickle of a NumPy file begins; None if the file holds plain numbers."""
    stream = io.BytesIO(file.data)
    try:
        version = np.lib.format.read_magic(stream)
        header = np.lib.format.read_array_header_1_0
        if version != (1, 0):
            header = np.lib.format.read_array_header_2_0
        _, _, dtype = header(stream)
    except Exception as error:  # a damaged header fails in the tokeniser, too
        file.fail(f"is a damaged NumPy file ({base.short_line(error)})")
    return stream.tell() if dtype.hasobject else None


def _read_cellpose(file: base.AnnotationFile, position: int) -> np.ndarray:
    """The array `masks` of the pickle at a position, [H, W] or [D, H, W]."""
    stream, size = io.BytesIO(file.data), len(file.data) - position
    stream.seek(position)
    try:
        saved = safe_pickle.load(stream, size=size, allowed={}, keep_records=True)
        (content,) = saved.state[4]  # np.save wraps the dictionary in an array without axes
        masks = _array_of(content["masks"])
    except Exception as error:  # anything can be wrong in a damaged or foreign pickle
        detail = base.short_line(error)
        file.fail(f"is not a readable Cellpose file with an array 'masks' ({detail})")
    return masks.reshape(masks.shape[1:]) if masks.ndim == 3 and len(masks) == 1 else masks


def _array_of(record: Any) -> np.ndarray:
    """Array described by the record of NumPy's own reconstruction."""
    if not isinstance(record, safe_pickle.Record):
        raise ValueError("not an array")
    if record.name.endswith("multiarray._reconstruct"):
        _, shape, dtype, fortran, raw = record.state
    elif record.name.endswith("numeric._frombuffer"):
        raw, dtype, shape, order = record.arguments
        fortran = order == "F"
    else:
        raise ValueError(f"{record.name} is not an array")
    name = dtype.arguments[0]
    if dtype.name != "numpy.dtype" or not _NUMERIC_TYPE.fullmatch(name):
        raise ValueError("the array does not hold numbers")
    order = dtype.state[1] if dtype.state and dtype.state[1] in ("<", ">") else "="
    flat = np.frombuffer(raw, np.dtype(name).newbyteorder(order))
    return flat.reshape(shape, order="F" if fortran else "C")


def _check_background(file: base.AnnotationFile, labels: np.ndarray, ids: np.ndarray) -> None:
    """Refuses a segmentation in which the background has a number, as in those of ilastik."""
    if len(ids) == 0 or not labels.all():
        return
    sizes = np.array([np.count_nonzero(labels == number) for number in ids[:MAX_CLASSES]])
    share = sizes.max() / labels.size
    if len(ids) <= MAX_CLASSES and share > MAX_CELL_SHARE:
        file.fail(
            f"numbers every pixel, and {share:.0%} of them {ids[sizes.argmax()]}: this looks like "
            "a segmentation into classes, whose background is not 0. Export a label mask in which "
            "the background is 0 and every cell has its own number"
        )


def _fail_one_number(file: base.AnnotationFile, labels: np.ndarray, number: int) -> NoReturn:
    file.fail(
        f"marks {np.count_nonzero(labels)} pixels, all with the number {number}, in "
        f"{_count_patches(labels)} patches: touching cells cannot be told apart. Number the cells "
        "(a label mask), or mark one pixel per cell"
    )


def _marked(image: Pixels) -> np.ndarray:
    """[*space] bool, True at marked pixels."""
    values = image.values[..., 0] if image.colour else image.values
    if image.lossy:
        return values > 127
    if image.colour:
        return values == np.iinfo(values.dtype).max
    top = values.max()
    return (values > 0) & (values >= top / 2)


def _labels(file: base.AnnotationFile) -> tuple[np.ndarray, np.ndarray]:
    """[*space] integers of a mask that may be stored as floats or bits, and its ascending ids."""
    values = file.once(_read_pixels).values
    if values.dtype.kind == "b":
        values = values.astype(np.uint8)
    if values.dtype.kind == "f":
        if (values != np.rint(values)).any():
            file.fail("holds values that are not whole numbers, so it is not a label mask")
        if np.abs(values).max() > 1 << 31:
            file.fail("holds numbers above 2147483648, so it is not a label mask")
        values = values.astype(np.int64)
    if values.dtype.kind == "i" and values.min() < 0:
        file.fail(f"holds the negative number {values.min()}, so it is not a label mask")
    flat = values.ravel()
    if flat.max() >= MAX_TABLE_LABEL:
        return values, np.unique(flat[flat > 0])
    ids = np.flatnonzero(np.bincount(flat.astype(np.int64)))
    return values, ids[ids > 0]


def _count_patches(labels: np.ndarray) -> int:
    """Connected patches of equal numbers, corners connecting."""
    return int(measure.label(labels, background=0, return_num=True, connectivity=labels.ndim)[1])


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


def _encode(canvas: np.ndarray, options: base.Options) -> bytes:
    """Bytes of a single-channel image, in the format of the extension of the file to write."""
    out = io.BytesIO()
    extension = options.target.lower().rsplit(".", 1)[-1]
    if extension == "npy":
        np.save(out, canvas)
    elif extension == "png" and canvas.ndim == 2 and canvas.dtype != np.uint32:
        PIL.Image.fromarray(canvas).save(out, "PNG")
    elif extension in ("tif", "tiff"):
        tifffile.imwrite(out, canvas, photometric="minisblack", compression="zlib")
    else:
        raise ValueError("such an image is written as .tif, .npy or, when 2-D, .png")
    return out.getvalue()
