"""Voxel size and channel names from the metadata of TIFF files."""

import logging
import math
import re
from typing import Any

import tifffile
from defusedxml import ElementTree

from cellcount_jax.io.images.base import spacing_of

log = logging.getLogger(__name__)

_MAX_PIXEL_SIZE = 20.0
"""Resolutions per inch or centimetre that give larger pixels (um) are for printing, such as 72 dots
per inch."""

_PRINTING_UNITS = ("inch", "inches", "in", "cm")


def spacing(
    tif: tifffile.TiffFile,
    scene: int,
    full: tifffile.TiffPageSeries,
    series: tifffile.TiffPageSeries,
) -> dict[str, float]:
    """Micrometres per pixel by axis letter, as far as the file says.

    Args:
      tif: The file.
      scene: Number of the series in it.
      full: The series.
      series: The chosen level of that series' pyramid.
    """
    if tif.is_ome:
        sizes = _ome_spacing(_ome_pixels(tif, scene))
    elif tif.is_imagej:
        sizes = _imagej_spacing(tif.imagej_metadata or {}, full.keyframe)
    else:
        sizes = _slide_spacing(full.keyframe) or _tag_spacing(full.keyframe)
    whole = dict(zip(full.axes, full.shape, strict=True))
    level = dict(zip(series.axes, series.shape, strict=True))
    return {c: s * whole.get(c, 1) / level.get(c, 1) for c, s in sizes.items()}


def channel_names(tif: tifffile.TiffFile, scene: int) -> tuple[str, ...]:
    """Names of the channels as OME or ImageJ metadata give them, else none."""
    if tif.is_ome and (pixels := _ome_pixels(tif, scene)) is not None:
        names = [c.get("Name") for c in pixels if c.tag.endswith("}Channel")]
        return tuple(names) if names and all(names) else ()
    if tif.is_imagej and (labels := (tif.imagej_metadata or {}).get("Labels")):
        return tuple(map(str, labels)) if isinstance(labels, list) else ()
    return ()


def _ome_pixels(tif: tifffile.TiffFile, scene: int) -> Any:
    """The Pixels element of an image; None if it cannot be found."""
    try:
        root = ElementTree.fromstring(tif.ome_metadata or "")
    except Exception:  # the parser and defusedxml raise many kinds; metadata are optional
        return None
    pixels = [p for p in root.iter() if isinstance(p.tag, str) and p.tag.endswith("}Pixels")]
    return pixels[scene] if scene < len(pixels) else None


def _ome_spacing(pixels: Any) -> dict[str, float]:
    if pixels is None:
        return {}
    names = ((axis, f"PhysicalSize{axis}") for axis in "ZYX")
    return spacing_of((axis, pixels.get(n), pixels.get(f"{n}Unit", "um")) for axis, n in names)


def _imagej_spacing(metadata: dict[str, Any], page: tifffile.TiffPage) -> dict[str, float]:
    unit = metadata.get("unit", "")
    units = {"Z": unit, "Y": metadata.get("yunit", unit), "X": unit}
    sizes: dict[str, Any] = {axis: 1 / density for axis, density in _densities(page).items()}
    sizes |= {"Z": metadata.get("spacing")}
    found = spacing_of((axis, size, units[axis]) for axis, size in sizes.items())
    if any(units[axis].casefold() in _PRINTING_UNITS for axis in "YX"):
        return _without_printing(page, found)
    return found


def _tag_spacing(page: tifffile.TiffPage) -> dict[str, float]:
    unit = page.tags.valueof("ResolutionUnit")
    length = {2: 25400.0, 3: 10000.0}.get(int(unit)) if unit is not None else None
    sizes = {axis: length / n for axis, n in _densities(page).items()} if length else {}
    return _without_printing(page, sizes)


def _without_printing(page: tifffile.TiffPage, sizes: dict[str, float]) -> dict[str, float]:
    """No sizes at all where one is too large for a microscope; the log says so."""
    too_large = [size for size in sizes.values() if size > _MAX_PIXEL_SIZE]
    if not too_large:
        return sizes
    log.warning(
        "%s: its resolution is for printing (%.4g um per pixel), so the pixel size is unknown; "
        "give it with --voxel-size",
        *(page.parent.filehandle.name, max(too_large)),
    )
    return {}


def _slide_spacing(page: tifffile.TiffPage) -> dict[str, float]:
    """Aperio slides write `MPP = 0.25` (micrometres per pixel) in their description."""
    found = re.search(r"\|\s*MPP\s*=\s*([0-9.]+)", page.description or "")
    return spacing_of((axis, found[1], "um") for axis in "YX") if found else {}


def _densities(page: tifffile.TiffPage) -> dict[str, float]:
    """Pixels per unit by axis from the resolution tags, as far as they are valid."""
    densities = {}
    for axis in "YX":
        value = page.tags.valueof(f"{axis}Resolution")
        if isinstance(value, tuple) and len(value) == 2 and value[0] and value[1]:
            density = value[0] / value[1]
            if 0 < density < math.inf:
                densities[axis] = density
    return densities
