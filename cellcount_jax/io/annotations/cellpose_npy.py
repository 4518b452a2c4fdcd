"""Cellpose's `_seg.npy`: a pickled dictionary of arrays, of which `masks` is read.

Unpickling may run any code, so calls become inert records, and the array is rebuilt from the record
of NumPy's own reconstruction.
"""

import io
import re
from typing import Any

import numpy as np

from cellcount_jax.io import safe_pickle
from cellcount_jax.io.annotations import base

_NUMERIC_TYPE = re.compile(r"[biuf][1248]|bool")


def pickle_position(file: base.AnnotationFile) -> int | None:
    """Where the pickle of a NumPy file begins; None if the file holds plain numbers."""
    stream = io.BytesIO(file.data)
    try:
        version = np.lib.format.read_magic(stream)
        header = np.lib.format.read_array_header_1_0
        if version != (1, 0):
            header = np.lib.format.read_array_header_2_0
        _, _, dtype = header(stream)
    except Exception as error:  # a damaged header fails in the tokeniser, too
        file.fail(f"is a damaged NumPy file ({base.one_line(error)})")
    return stream.tell() if dtype.hasobject else None


def read_masks(file: base.AnnotationFile, position: int) -> np.ndarray:
    """The array `masks` of the pickle at a position, [H, W] or [D, H, W]."""
    stream, size = io.BytesIO(file.data), len(file.data) - position
    stream.seek(position)
    try:
        saved = safe_pickle.load(stream, size=size, allowed={}, keep_records=True)
        (content,) = saved.state[4]  # np.save wraps the dictionary in an array without axes
        masks = _array(content["masks"])
    except Exception as error:  # anything can be wrong in a damaged or foreign pickle
        detail = base.one_line(error)
        file.fail(f"is not a readable Cellpose file with an array 'masks' ({detail})")
    return masks.reshape(masks.shape[1:]) if masks.ndim == 3 and len(masks) == 1 else masks


def _array(record: Any) -> np.ndarray:
    """Array described by the record of NumPy's own reconstruction."""
    if not isinstance(record, safe_pickle.Record):
        raise ValueError("no array")
    if record.name.endswith("multiarray._reconstruct"):
        _, shape, dtype, fortran, raw = record.state
    elif record.name.endswith("numeric._frombuffer"):
        raw, dtype, shape, order = record.arguments
        fortran = order == "F"
    else:
        raise ValueError(f"{record.name} is no array")
    name = dtype.arguments[0]
    if dtype.name != "numpy.dtype" or not _NUMERIC_TYPE.fullmatch(name):
        raise ValueError("the array does not hold numbers")
    order = dtype.state[1] if dtype.state and dtype.state[1] in ("<", ">") else "="
    flat = np.frombuffer(raw, np.dtype(name).newbyteorder(order))
    return flat.reshape(shape, order="F" if fortran else "C")
