"""What a simulated image is made of: every knob with its unit, and the two presets."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fluorescence2D:
    """A 2-D fluorescence image, uint8 [H, W, 3]; defaults are measured on the VGG cells.

    Brightness is in grey levels of the 8-bit image, lengths are in pixels.

    Attributes:
      reference_shape: (H, W) the counts below belong to; other sizes keep the density.
      count_mean: mean number of cells at the reference size.
      count_std: its standard deviation.
      count_range: least and largest number of cells at the reference size.
      radius: mean radius of a cell, pixels.
      radius_spread: standard deviation of the radius from cell to cell, pixels.
      roughness: standard deviation of the outline about a circle, fraction of the radius.
      brightness: mean brightness of a cell in focus, grey levels.
      brightness_spread: standard deviation from cell to cell, fraction of `brightness`.
      texture: standard deviation inside a cell, fraction of its brightness.
      texture_scale: correlation length (Gaussian sigma) of the texture, pixels.
      overlap: how far two cells may cover each other: 1 any, 0 just touching; between, centres
        are at least (1 - overlap) diameters apart.
      crowding: standard deviation of the density of cells in waves as long as the image,
        fraction of its mean.
      centring: mean fall of the density from the centre to the middle of a side, fraction.
      clustered: fraction of the cells that lie in clusters, 0 to 1.
      cluster_size: mean number of cells of a cluster.
      cluster_spread: standard deviation of a cell's distance from its cluster's centre, per
        axis, pixels.
      blur: least and largest focal blur (Gaussian sigma), uniform between them, pixels.
      shared_focus: whether cells that touch are equally blurred, as at one depth.
      background: mean grey level without cells.
      haze: part of the cells' mean light that comes back as diffuse background.
      illumination: fall of the background from its mean to its darkest place, fraction; 0 even
        light, 1 a corner without any.
      illumination_variety: how much the light is tilted and twisted from image to image,
        against a centred dome.
      photons: photons per grey level for shot noise; 0 draws none.
      read_noise: standard deviation of the camera's noise before colour coding, grey levels.
      chroma_subsampling: whether blue is kept at half resolution, as in a JPEG file (4:2:0).
      spacing: size of a pixel, (y, x) micrometres, if it means anything.
    """

    reference_shape: tuple[int, ...] = (256, 256)
    count_mean: float = 174.0
    count_std: float = 64.0
    count_range: tuple[int, int] = (70, 320)
    radius: float = 4.95
    radius_spread: float = 0.12
    roughness: float = 0.06
    brightness: float = 160.0
    brightness_spread: float = 0.08
    texture: float = 0.22
    texture_scale: float = 1.6
    overlap: float = 1.0
    crowding: float = 0.33
    centring: float = 0.25
    clustered: float = 0.0
    cluster_size: float = 8.0
    cluster_spread: float = 12.0
    blur: tuple[float, float] = (0.3, 2.9)
    shared_focus: bool = True
    background: float = 29.5
    haze: float = 1.1
    illumination: float = 1.0
    illumination_variety: float = 0.55
    photons: float = 0.0
    read_noise: float = 8.4
    chroma_subsampling: bool = True
    spacing: tuple[float, ...] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class LightSheet3D:
    """A 3-D light-sheet volume of nuclei, uint16 [D, H, W, 1]; defaults are mouse cortex.

    Brightness is in camera counts, lengths are in voxels along (z, y, x).

    Attributes:
      reference_shape: (D, H, W) the counts below belong to; other sizes keep the density.
      count_mean: mean number of nuclei at the reference size.
      count_std: its standard deviation.
      count_range: least and largest number of nuclei at the reference size.
      radius: mean half axes of a nucleus (z, y, x), voxels.
      radius_spread: standard deviation of a nucleus's size, fraction of its radius.
      elongation: standard deviation of each half axis apart from the others, fraction.
      brightness: mean brightness of a nucleus in focus, camera counts above the background.
      brightness_spread: standard deviation from nucleus to nucleus, fraction of `brightness`.
      texture: standard deviation inside a nucleus, fraction of its brightness.
      texture_scale: correlation length (Gaussian sigma) of the texture, voxels in plane.
      min_distance: least distance of two centres, fraction of the mean diameter.
      crowding: standard deviation of the density of nuclei about its mean, fraction.
      psf: standard deviations of the point spread function (z, y, x), voxels.
      attenuation: part of the light lost from the first slice to the last of the reference, 0 to 1.
      background: mean camera count without nuclei, with the camera's offset.
      haze: part of the nuclei's mean light that comes back as diffuse background.
      illumination: fall of the light from its mean to its darkest place in plane, fraction.
      illumination_variety: how much the light is tilted and twisted from volume to volume,
        against a centred dome.
      photons: photons per camera count for shot noise; 0 draws none.
      read_noise: standard deviation of the camera's noise, camera counts.
      spacing: size of a voxel, (z, y, x) micrometres.
    """

    reference_shape: tuple[int, ...] = (64, 224, 224)
    count_mean: float = 861.0
    count_std: float = 256.0
    count_range: tuple[int, int] = (250, 1600)
    radius: tuple[float, float, float] = (2.0, 6.0, 6.0)
    radius_spread: float = 0.12
    elongation: float = 0.14
    brightness: float = 2400.0
    brightness_spread: float = 0.25
    texture: float = 0.2
    texture_scale: float = 1.5
    min_distance: float = 0.9
    crowding: float = 0.4
    psf: tuple[float, float, float] = (1.3, 1.2, 1.2)
    attenuation: float = 0.35
    background: float = 420.0
    haze: float = 1.2
    illumination: float = 0.4
    illumination_variety: float = 0.5
    photons: float = 0.3
    read_noise: float = 12.0
    spacing: tuple[float, ...] | None = (2.5, 0.75, 0.75)


Preset = Fluorescence2D | LightSheet3D

PRESETS: dict[str, Preset] = {"vgg": Fluorescence2D(), "light_sheet": LightSheet3D()}


def find_preset(name: str, **knobs: object) -> Preset:
    """The named preset with some of its knobs set otherwise.

    Args:
      name: "vgg" or "light_sheet".
      **knobs: fields of `Fluorescence2D` or `LightSheet3D`.

    Raises:
      ValueError: unknown preset or knob.
    """
    if name not in PRESETS:
        raise ValueError(f"preset {name!r} is unknown; choose one of {', '.join(PRESETS)}")
    preset = PRESETS[name]
    known = [field.name for field in dataclasses.fields(preset)]
    unknown = sorted(set(knobs) - set(known))
    if unknown:
        raise ValueError(f"preset {name!r} has no knob {unknown[0]!r}; it has {', '.join(known)}")
    changed = dataclasses.replace(preset, **knobs)  # type: ignore[arg-type]
    _check(changed)
    return changed


def _check(preset: Preset) -> None:
    """Every number is finite and not negative, shares are at most 1, ranges ascend.

    Raises:
      ValueError: the first knob that is not so.
    """
    for name, value in dataclasses.asdict(preset).items():
        numbers = np.atleast_1d(np.asarray(0.0 if value is None else value, np.float64))
        positive = name in ("radius", "reference_shape", "cluster_size", "spacing")
        if not np.isfinite(numbers).all() or (numbers < 0).any():
            raise ValueError(f"knob {name}={value!r} must be finite and not negative")
        if positive and value is not None and (numbers == 0).any():
            raise ValueError(f"knob {name}={value!r} must be above 0")
        if name in ("overlap", "clustered", "attenuation", "illumination") and (numbers > 1).any():
            raise ValueError(f"knob {name}={value!r} must lie between 0 and 1")
    low, high = preset.count_range
    if not low < preset.count_mean < high:
        raise ValueError(f"knob count_mean={preset.count_mean} must lie inside {low} to {high}")
    widest = math.sqrt((preset.count_mean - low) * (high - preset.count_mean))
    if not 0 < preset.count_std < widest:
        raise ValueError(f"knob count_std={preset.count_std} must lie between 0 and {widest:.1f}")
    if isinstance(preset, Fluorescence2D) and preset.blur[0] > preset.blur[1]:
        raise ValueError(f"knob blur={preset.blur} must be (least, largest)")


def draw_count(rng: np.random.Generator, preset: Preset, shape: Sequence[int]) -> int:
    """A number of cells from the preset's distribution, at the density of its reference size.

    A beta distribution between the least and the largest count with the preset's mean and
    standard deviation: flat in the middle and bounded, as the published counts are.

    Args:
      rng: source of randomness; two gamma variates are drawn.
      preset: what is simulated.
      shape: space shape of the image, pixels or voxels.
    """
    low, high = preset.count_range
    mean = (preset.count_mean - low) / (high - low)
    variance = (preset.count_std / (high - low)) ** 2
    total = mean * (1 - mean) / variance - 1
    density = np.prod(shape, dtype=np.float64) / np.prod(preset.reference_shape, dtype=np.float64)
    drawn = low + (high - low) * rng.beta(mean * total, (1 - mean) * total)
    return round(float(drawn * density))
