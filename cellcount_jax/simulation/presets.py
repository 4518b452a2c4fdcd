"""Parameters of simulated images, with units, and the two presets."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fluorescence2D:
    """A 2-D fluorescence image, uint8 [H, W, 3]; defaults are fitted to the VGG cells.

    Brightness is in grey levels, lengths are in pixels; sd is a standard deviation.
    """

    reference_shape: tuple[int, ...] = (256, 256)  # of the counts; other shapes keep the density
    count_mean: float = 174.0  # mean number of cells at the reference shape
    count_std: float = 64.0  # its sd
    count_range: tuple[int, int] = (70, 320)  # smallest and largest number of cells
    radius: float = 4.95  # mean radius of a cell, pixels
    radius_spread: float = 0.12  # sd of the radius between cells, pixels
    roughness: float = 0.06  # sd of the outline from a circle, fraction of the radius
    brightness: float = 160.0  # mean brightness of a cell in focus, grey levels
    brightness_spread: float = 0.08  # sd between cells, fraction of `brightness`
    texture: float = 0.22  # sd inside a cell, fraction of its brightness
    texture_scale: float = 1.6  # correlation length (Gaussian sigma) of the texture, pixels
    overlap: float = 1.0  # centres are at least (1 - overlap) diameters apart
    crowding: float = 0.33  # sd of the density, in waves about as long as the image, fraction
    centring: float = 0.25  # mean drop of the density from centre to side, fraction
    clustered: float = 0.0  # fraction of the cells that lie in clusters, 0 to 1
    cluster_size: float = 8.0  # mean number of cells per cluster
    cluster_spread: float = 12.0  # sd of cells about their cluster's centre, per axis, pixels
    blur: tuple[float, float] = (0.3, 2.9)  # range of the defocus (Gaussian sigma), pixels
    shared_focus: bool = True  # touching cells have the same defocus
    background: float = 29.5  # mean grey level without cells
    haze: float = 1.1  # diffuse background, as a multiple of the cells' mean intensity
    illumination: float = 1.0  # drop of the background from mean to minimum, fraction; 0 is even
    illumination_variety: float = 0.55  # random tilt and twist relative to a centred dome
    photons: float = 0.0  # photons per grey level for shot noise; 0 for no shot noise
    read_noise: float = 8.4  # sd of the camera noise before colour coding, grey levels
    chroma_subsampling: bool = True  # colour at half resolution, as in JPEG files (4:2:0)
    spacing: tuple[float, ...] | None = None  # pixel size, (y, x) micrometres, if known


@dataclasses.dataclass(frozen=True, kw_only=True)
class LightSheet3D:
    """A 3-D light-sheet volume of nuclei, uint16 [D, H, W, 1]; defaults resemble mouse cortex.

    Brightness is in camera counts, lengths are in voxels (z, y, x); sd is a standard deviation.
    """

    reference_shape: tuple[int, ...] = (64, 224, 224)  # of the counts; others keep the density
    count_mean: float = 861.0  # mean number of nuclei at the reference shape
    count_std: float = 256.0  # its sd
    count_range: tuple[int, int] = (250, 1600)  # smallest and largest number of nuclei
    radius: tuple[float, float, float] = (2.0, 6.0, 6.0)  # mean semi-axes of a nucleus
    radius_spread: float = 0.12  # sd of a nucleus's size, fraction of its radius
    elongation: float = 0.14  # independent sd of each semi-axis, fraction
    brightness: float = 2400.0  # mean of a nucleus in focus, camera counts above the background
    brightness_spread: float = 0.25  # sd between nuclei, fraction of `brightness`
    texture: float = 0.2  # sd inside a nucleus, fraction of its brightness
    texture_scale: float = 1.5  # correlation length (Gaussian sigma), voxels in plane
    min_distance: float = 0.9  # smallest distance between centres, fraction of the mean diameter
    crowding: float = 0.4  # sd of the density of nuclei, fraction of its mean
    psf: tuple[float, float, float] = (1.3, 1.2, 1.2)  # sds of the point spread function
    attenuation: float = 0.35  # light lost from first to last slice of the reference shape
    background: float = 420.0  # mean camera count without nuclei, including the camera's offset
    haze: float = 1.2  # diffuse background, as a multiple of the nuclei's mean intensity
    illumination: float = 0.4  # drop from mean to minimum in plane, fraction
    illumination_variety: float = 0.5  # random tilt and twist relative to a centred dome
    photons: float = 0.3  # photons per camera count for shot noise; 0 for no shot noise
    read_noise: float = 12.0  # sd of the camera noise, camera counts
    spacing: tuple[float, ...] | None = (2.5, 0.75, 0.75)  # voxel size, (z, y, x) micrometres


Preset = Fluorescence2D | LightSheet3D

PRESETS: dict[str, Preset] = {"vgg": Fluorescence2D(), "light_sheet": LightSheet3D()}


def find_preset(name: str, **parameters: object) -> Preset:
    """The named preset with some of its parameters replaced.

    Args:
      name: "vgg" or "light_sheet".
      **parameters: Fields of `Fluorescence2D` or `LightSheet3D`.

    Raises:
      ValueError: Unknown preset or parameter, or a value out of range.
    """
    if name not in PRESETS:
        raise ValueError(f"preset {name!r} is unknown; choose one of {', '.join(PRESETS)}")
    preset = PRESETS[name]
    known = [field.name for field in dataclasses.fields(preset)]
    unknown = sorted(set(parameters) - set(known))
    if unknown:
        raise ValueError(
            f"preset {name!r} has no parameter {unknown[0]!r}; it has {', '.join(known)}"
        )
    changed = dataclasses.replace(preset, **parameters)  # type: ignore[arg-type]
    _check(changed)
    return changed


def _check(preset: Preset) -> None:
    """Every number must be finite and non-negative, fractions at most 1, ranges ascending.

    Raises:
      ValueError: Naming the first parameter that is not.
    """
    for name, value in dataclasses.asdict(preset).items():
        numbers = np.atleast_1d(np.asarray(0.0 if value is None else value, np.float64))
        positive = name in ("radius", "reference_shape", "cluster_size", "spacing")
        if not np.isfinite(numbers).all() or (numbers < 0).any():
            raise ValueError(f"parameter {name}={value!r} must be finite and non-negative")
        if positive and value is not None and (numbers == 0).any():
            raise ValueError(f"parameter {name}={value!r} must be above 0")
        if name in ("overlap", "clustered", "attenuation", "illumination") and (numbers > 1).any():
            raise ValueError(f"parameter {name}={value!r} must lie between 0 and 1")
    low, high = preset.count_range
    if not low < preset.count_mean < high:
        raise ValueError(
            f"parameter count_mean={preset.count_mean} must lie inside {low} to {high}"
        )
    widest = math.sqrt((preset.count_mean - low) * (high - preset.count_mean))
    if not 0 < preset.count_std < widest:
        raise ValueError(
            f"parameter count_std={preset.count_std} must lie between 0 and {widest:.1f}"
        )
    if isinstance(preset, Fluorescence2D) and preset.blur[0] > preset.blur[1]:
        raise ValueError(f"parameter blur={preset.blur} must be (smallest, largest)")


def draw_count(rng: np.random.Generator, preset: Preset, shape: Sequence[int]) -> int:
    """Draws a number of cells from the preset's distribution, scaled to the shape.

    A beta distribution between the smallest and the largest count with the preset's mean and
    standard deviation: flat in the middle and bounded, like the published counts.

    Args:
      rng: Source of randomness; two gamma variates are drawn.
      preset: Parameters of the image.
      shape: Spatial shape, pixels or voxels.
    """
    low, high = preset.count_range
    mean = (preset.count_mean - low) / (high - low)
    variance = (preset.count_std / (high - low)) ** 2
    total = mean * (1 - mean) / variance - 1
    density = np.prod(shape, dtype=np.float64) / np.prod(preset.reference_shape, dtype=np.float64)
    drawn = low + (high - low) * rng.beta(mean * total, (1 - mean) * total)
    return round(float(drawn * density))
