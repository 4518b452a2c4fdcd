"""Zeiss CZI and Nikon ND2, through optional packages."""

import importlib
import logging
import math
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from defusedxml import ElementTree

from cellcount_jax.io.bounded_file import BoundedFile
from cellcount_jax.io.cache import ArrayCache
from cellcount_jax.io.images import base
from cellcount_jax.io.images.chunks import read_frames
from cellcount_jax.io.images.czi_tiles import check_tiles

_LOG = logging.getLogger(__name__)

_CZI_TYPES = {
    "Gray8": (np.uint8, 1),
    "Gray16": (np.uint16, 1),
    "Gray32Float": (np.float32, 1),
    "Bgr24": (np.uint8, 3),
    "Bgr48": (np.uint16, 3),
    "Bgr96Float": (np.float32, 3),
}


def open_nd2(path: Path, request: base.Request) -> base.ImageReader:
    """Opens a Nikon file, read by frame; stage positions are the axis P.

    Raises:
      ProblemError: The package is missing, or the file is too large.
      Exception: Whatever nd2 raises on damaged files.
    """
    nd2 = _optional("nd2", "Nikon ND2")
    base.pick_scene([1], request.scene)
    base.pick_level(1, request.level)
    opened = BoundedFile(path)
    try:
        return _nd2_reader(nd2.ND2File(opened), request)
    except BaseException:
        opened.close()
        raise


def _nd2_reader(file: Any, request: base.Request) -> base.ImageReader:
    sizes = {str(axis): int(n) for axis, n in file.sizes.items()}
    frame = {axis: sizes[axis] for axis in "CYXS" if axis in sizes}
    outer = {axis: n for axis, n in sizes.items() if axis not in frame}
    shape = (*outer.values(), *frame.values())
    base.check_size(math.prod(frame.values()), request.limit, "is stored in frames")
    dtype, cache = np.dtype(file.dtype), ArrayCache()
    stored = int(file.attributes.sequenceCount)

    def whole_frame(number: int) -> np.ndarray:
        if number >= stored:  # nd2 would give zeros
            raise base.ProblemError(f"holds only {stored} planes of {math.prod(outer.values())}")
        # A copy, because nd2 gives views of the file, which could then not be closed.
        return np.array(file.read_frame(number)).reshape(tuple(frame.values()))

    def read_frame(number: int, slices: base.Slices) -> np.ndarray:
        return cache.get(number, lambda: whole_frame(number))[slices]

    channels = _nd2_channels(file)
    return base.ImageReader(
        shape=shape,
        dtype=dtype,
        axes="".join(a if len(a) == 1 else "Q" for a in (*outer, *frame)),
        read=lambda slices: read_frames(shape, len(outer), dtype, slices, read_frame),
        chunks=(1,) * len(outer) + tuple(frame.values()),
        borrowed=True,
        spacing=_nd2_spacing(channels),
        channel_names=tuple(str(c.channel.name) for c in channels),
        close=file.close,
    )


def _nd2_channels(file: Any) -> Sequence[Any]:
    try:
        return getattr(file.metadata, "channels", None) or []
    except Exception:  # nd2 fails on rarer metadata; the pixels can be read without them
        _LOG.warning("%s: its voxel size and channel names cannot be read", file.path)
        return []


def _nd2_spacing(channels: Sequence[Any]) -> dict[str, float]:
    """Micrometres per pixel of the axes that are calibrated; nd2 gives 1 for the others."""
    if not channels:
        return {}
    volume = channels[0].volume
    known = zip("XYZ", volume.axesCalibration, volume.axesCalibrated, strict=True)
    return {axis: float(size) for axis, size, calibrated in known if calibrated and size > 0}


def open_czi(path: Path, request: base.Request) -> base.ImageReader:
    """Opens a Zeiss file; Zeiss's own library composes parts from its tiles.

    Raises:
      ProblemError: The package is missing, the file is damaged, or the caller must choose.
      Exception: Whatever pylibCZIrw raises on damaged files.
    """
    czi = _optional("pylibCZIrw.czi", "Zeiss CZI")
    base.pick_level(1, request.level)
    check_tiles(path)
    context = czi.open_czi(str(path))
    file = context.__enter__()
    try:
        return _czi_reader(file, request, close=lambda: context.__exit__(None, None, None))
    except BaseException:
        context.__exit__(None, None, None)
        raise


def _czi_reader(file: Any, request: base.Request, *, close: Any) -> base.ImageReader:
    scenes = file.scenes_bounding_rectangle_no_pyramid
    scene, box = None, file.total_bounding_rectangle_no_pyramid
    if scenes:
        numbers = sorted(scenes)
        sizes = [scenes[n].w * scenes[n].h for n in numbers]
        scene = numbers[base.pick_scene(sizes, request.scene)]
        box = scenes[scene]
    else:
        base.pick_scene([1], request.scene)
    types = set(file.pixel_types.values())
    if len(types) != 1 or (kind := types.pop()) not in _CZI_TYPES:
        raise base.ProblemError(f"mixes or uses pixel types {types or kind}; export it as OME-TIFF")
    dtype, samples = np.dtype(_CZI_TYPES[kind][0]), _CZI_TYPES[kind][1]
    ranges = {a: r for a, r in file.total_bounding_box_no_pyramid.items() if a not in "XYSM"}
    outer = {axis: stop - start for axis, (start, stop) in ranges.items()}
    shape = (*outer.values(), box.h, box.w, samples)

    def read_frame(number: int, slices: base.Slices) -> np.ndarray:
        index = np.unravel_index(number, tuple(outer.values()))
        plane = {a: ranges[a][0] + int(i) for a, i in zip(outer, index, strict=True)}
        rows, columns, colours = slices
        corner = (box.x + columns.start, box.y + rows.start)
        roi = (*corner, columns.stop - columns.start, rows.stop - rows.start)
        part = np.asarray(file.read(roi=roi, plane=plane, scene=scene))
        # Colours are stored blue first.
        return part[:: rows.step, :: columns.step, ::-1][..., colours]

    spacing, names = _czi_metadata(file.raw_metadata)
    return base.ImageReader(
        shape=shape,
        dtype=dtype,
        axes="".join(outer) + "YXS",
        read=lambda slices: read_frames(shape, len(outer), dtype, slices, read_frame),
        chunks=(1,) * len(outer) + (min(box.h, 1024), min(box.w, 1024), samples),
        spacing=spacing,
        channel_names=names if len(names) == outer.get("C", 1) * samples else (),
        close=close,
    )


def _czi_metadata(xml: str) -> tuple[dict[str, float], tuple[str, ...]]:
    """Micrometres per pixel by axis letter, and channel names."""
    try:
        root = ElementTree.fromstring(xml)
    except Exception:  # the parser and defusedxml raise many kinds; metadata are optional
        return {}, ()
    distances = root.iterfind(".//Scaling/Items/Distance")
    spacing = base.spacing_of((str(d.get("Id")), d.findtext("Value"), "m") for d in distances)
    channels = root.iterfind("./Metadata/Information/Image/Dimensions/Channels/Channel")
    names = [c.get("Name") or c.get("Id") or "" for c in channels]
    return spacing, tuple(names)


def _optional(name: str, what: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise base.ProblemError(
            f'{what} needs an optional package; pip install "cellcount_jax[formats]"'
        ) from None
