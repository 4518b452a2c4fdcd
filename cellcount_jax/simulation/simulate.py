"""Simulated images and volumes of cells with exact dots, reproducible on every machine.

Two presets. "vgg": 2-D fluorescence in the style of SIMCEP (Lehmussola et al., "Computational
framework for simulating fluorescence microscope images with cell populations", IEEE TMI 2007),
fitted to the images of the VGG cell counting dataset (Lempitsky and Zisserman, NeurIPS 2010).
"light_sheet": nuclei of cleared mouse cortex under a light-sheet microscope.

Everything is NumPy in double precision, rounded to integers at the end, and depends only on the
seed, the shape, the count and the parameters of the preset.
"""

import dataclasses
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cellcount_jax import __version__
from cellcount_jax.data.sample import Sample
from cellcount_jax.simulation import write_folder
from cellcount_jax.simulation.fluorescence_2d import simulate_fluorescence
from cellcount_jax.simulation.light_sheet_3d import simulate_light_sheet
from cellcount_jax.simulation.presets import (
    Fluorescence2D,
    LightSheet3D,
    draw_count,
    find_preset,
)


def simulate_cells(
    seed: int | Sequence[int],
    shape: Sequence[int] | None = None,
    count: int | None = None,
    *,
    preset: str = "vgg",
    return_labels: bool = False,
    **parameters: Any,
) -> tuple[np.ndarray, ...]:
    """One simulated image or volume and the true centres of its cells.

    Args:
      seed: Non-negative integer, or several that together select the random stream.
      shape: (H, W) for "vgg", (D, H, W) for "light_sheet", pixels; None: the preset's size.
      count: Number of cells; None draws it from the preset's distribution, scaled to the shape.
      preset: "vgg" or "light_sheet".
      return_labels: Also return the instance mask.
      **parameters: Fields of `Fluorescence2D` ("vgg") or `LightSheet3D` ("light_sheet") that
        replace the preset's.

    Returns:
      Image: uint8 [H, W, 3] or uint16 [D, H, W, 1].
      dots: [count, ndim] float32, (y, x) or (z, y, x) pixels, all inside the image.
      labels (with `return_labels`): int32 [*shape], 0 background, i + 1 the cell of dot i. Where
        cells overlap, the one in front ("vgg"; a hidden cell may be missing) or the one whose
        centre is nearer in radii ("light_sheet").

    Raises:
      ValueError: Unknown preset or parameter, a shape with the wrong number of axes, a negative
        count, or more cells than fit.
    """
    settings = find_preset(preset, **parameters)
    space = _space_shape(shape, preset, settings)
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed)))
    n = draw_count(rng, settings, space) if count is None else _checked_count(count)
    if isinstance(settings, Fluorescence2D):
        image, centres, labels = simulate_fluorescence(
            rng, space, n, settings, labelled=return_labels
        )
    else:
        image, centres, labels = simulate_light_sheet(
            rng, space, n, settings, labelled=return_labels
        )
    dots = centres.astype(np.float32)
    return (image, dots) if labels is None else (image, dots, labels)


def simulate_dataset(
    seed: int,
    n: int,
    shape: Sequence[int] | None = None,
    preset: str = "vgg",
    *,
    count: int | None = None,
    **parameters: Any,
) -> Iterator[Sample]:
    """Simulated samples, made one by one; each depends only on the seed and its index.

    Args:
      seed: Non-negative integer.
      n: Number of samples.
      shape: As in `simulate_cells`.
      preset: As in `simulate_cells`.
      count: Cells in every sample; None draws a number for each.
      **parameters: As in `simulate_cells`.

    Returns:
      Iterator of samples named sim_000000, sim_000001, ...

    Raises:
      ValueError: See `simulate_cells`; or n is negative; raised immediately, not with the first
        sample.
    """
    settings = find_preset(preset, **parameters)
    space = _space_shape(shape, preset, settings)
    if n < 0:
        raise ValueError(f"number of samples {n} must be 0 or more")
    if count is not None:
        _checked_count(count)

    def sample(index: int) -> Sample:
        image, dots = simulate_cells([seed, index], space, count, preset=preset, **parameters)
        return Sample(name=f"sim_{index:06d}", image=image, dots=dots, spacing=settings.spacing)

    return map(sample, range(n))


def write_simulated(
    folder: str | os.PathLike[str],
    n: int,
    *,
    seed: int = 0,
    shape: Sequence[int] | None = None,
    preset: str = "vgg",
    count: int | None = None,
    format: str | None = None,
    **parameters: Any,
) -> None:
    """Writes simulated samples as a folder to train on or to open in napari.

    The folder then holds `images/sim_000000.png` etc., `dots/sim_000000.csv` with napari's columns
    `index,axis-0,axis-1[,axis-2]`, and `simulation.json` with all parameters.

    Args:
      folder: Created if missing; its `images` and `dots` must be empty or missing.
      n: Number of samples.
      seed: As in `simulate_dataset`.
      shape: As in `simulate_cells`.
      preset: As in `simulate_cells`.
      count: As in `simulate_dataset`.
      format: "png" (images only), "tiff" (OME-TIFF) or "zarr" (OME-Zarr 0.5); None is png for
        images and tiff for volumes.
      **parameters: As in `simulate_cells`.

    Raises:
      ValueError: See `simulate_dataset`; unknown format, a volume as png, or files exist already.
    """
    settings = find_preset(preset, **parameters)
    samples = simulate_dataset(seed, n, shape, preset, count=count, **parameters)
    space = _space_shape(shape, preset, settings)
    if format is None:
        format = "png" if len(space) == 2 else "tiff"
    if format not in write_folder.FORMATS:
        raise ValueError(
            f"format {format!r} is unknown; choose one of {', '.join(write_folder.FORMATS)}"
        )
    if format == "png" and len(space) == 3:
        raise ValueError("a PNG cannot hold a volume; choose format tiff or zarr")
    record = {"seed": seed, "n": n, "shape": space, "count": count, "preset": preset}
    record |= {"parameters": dataclasses.asdict(settings), "cellcount_jax": __version__}
    write_folder.write_folder(Path(folder), samples, format=format, record=record)


def _space_shape(
    shape: Sequence[int] | None, name: str, settings: Fluorescence2D | LightSheet3D
) -> tuple[int, ...]:
    if shape is None:
        return settings.reference_shape
    space = tuple(int(s) for s in shape)
    axes = "(H, W)" if isinstance(settings, Fluorescence2D) else "(D, H, W)"
    if len(space) != len(settings.reference_shape) or min(space) < 1:
        raise ValueError(f"shape {space} does not suit preset {name!r}, which needs {axes} >= 1")
    return space


def _checked_count(count: int) -> int:
    if count != math.floor(count) or count < 0:
        raise ValueError(f"count {count} must be a whole number, 0 or more (None draws one)")
    return int(count)
