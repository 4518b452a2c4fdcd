"""Counts one file, in memory or by parts, and writes its points and density."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from tqdm import tqdm

from cellcount_jax.data.pixel_size import Scale
from cellcount_jax.inference import out_of_core
from cellcount_jax.inference.counter import Count, Counter
from cellcount_jax.io.images.image import Image, LazyImage, open_lazy
from cellcount_jax.prediction import writers
from cellcount_jax.prediction.counts_csv import Row

EMPTIEST = 4000
"""A large image that declares more than so many bytes for each that it holds is refused."""

DRAWN = 2048
"""Longest side of what is drawn of an image that is counted by parts."""

OnCounted = Callable[[str, Image, Count], None]


class RowMaker(Protocol):
    """Makes the rows of one image, such as one per region."""

    def start_density(self, whole: tuple[int, ...], scale: Scale) -> out_of_core.TakeDensity:
        """See `lazy.StartDensity`; only of an image that is counted by parts."""
        ...

    def rows(self, row: Row, found: Count) -> list[Row]:
        """Rows, from the image's own and what was found."""
        ...


RowsOf = Callable[[LazyImage], RowMaker]
"""Called with each image before it is counted."""


@dataclasses.dataclass(frozen=True)
class Options:
    """What a user may choose for all files of a call.

    Attributes:
      points_style: of `outputs.POINTS_STYLES`.
      density: also write density maps, as OME-TIFF, or Zarr for images counted by parts.
      axes: letters of the files' axes, such as "ZCYX", in place of what they say.
      channels: indices or names of the channels to use.
      voxel_size: micrometres per pixel, (y, x) or (z, y, x), in place of what the files say.
      diameter: of a cell in pixels, for models that resize images by it; else it is estimated.
      shard: (i, n) counts the files i, i + n, i + 2n, ... into a table of its own, i from 1.
      on_counted: called with name, image and count of each, to draw overlays.
      rows_of: makes several rows of an image's row, such as one per region.
      about_rows: names what `rows_of` does; rows made under another name are counted anew.
    """

    points_style: str = "plain"
    density: bool = False
    axes: str | None = None
    channels: Sequence[int | str] | None = None
    voxel_size: Sequence[float] | None = None
    diameter: float | None = None
    shard: tuple[int, int] | None = None
    on_counted: OnCounted | None = None
    rows_of: RowsOf | None = None
    about_rows: str = ""

    def __post_init__(self) -> None:
        if self.points_style not in writers.POINTS_STYLES:
            known = ", ".join(writers.POINTS_STYLES)
            raise ValueError(f"no points style {self.points_style!r}; there are {known}")
        sizes = self.voxel_size
        if sizes is not None and not all(0 < s < math.inf for s in sizes):
            raise ValueError(f"voxel size {sizes}: micrometres greater than 0 are needed")
        if self.shard is not None and not 1 <= self.shard[0] <= self.shard[1]:
            raise ValueError(f"shard {self.shard[0]}/{self.shard[1]}: give i/n with i from 1 to n")


def count_one(
    counter: Counter, path: Path, name: str, out: Path, options: Options, row: Row, bar: tqdm
) -> list[Row]:
    """Counts one file and writes what lies beside the table.

    Args:
      counter: trained.
      path: the file.
      name: of its outputs.
      out: folder of the outputs.
      options: the caller's.
      row: fields that the file's rows begin with.
      bar: shows how far a large image is.

    Returns:
      Its row, or several if `options.rows_of` makes them.

    Raises:
      ValueError: the image cannot be read or does not fit the network.
    """
    channels = None if options.channels is None else list(options.channels)
    with open_lazy(path, axes=options.axes, channels=channels) as image:
        spacing = _spacing(image, options.voxel_size)
        maker = None if options.rows_of is None else options.rows_of(image)
        if math.prod(image.space_shape) > out_of_core.LARGE:
            starts: list[out_of_core.StartDensity] = [] if maker is None else [maker.start_density]
            if options.density:
                starts.append(_writes_density(image, out / "density" / name, spacing))
            found = _by_parts(counter, image, name, spacing, starts, bar)
            shown = _reduced(image) if options.on_counted else None
        else:
            shown = Image(image.read(), spacing, image.channel_names, path)
            found = next(counter.count_all([shown.pixels], spacing=spacing))
            if options.density and found.density is not None:
                each = _density_spacing(image.space_shape, found.density.shape, spacing)
                target = out / "density" / f"{name}.ome.tif"
                writers.write_density(target, found.density, each)
        if found.points is not None and found.scores is not None:
            writers.write_points(
                writers.points_path(out, name, options.points_style),
                found.points,
                found.scores,
                style=options.points_style,
                spacing=spacing,
                image_name=path.name,
            )
        if options.on_counted is not None and shown is not None:
            options.on_counted(name, shown, _shown_count(found, image, shown))
        row |= describe(image.space_shape, spacing, found) | {"status": "ok"}
        return [row] if maker is None else maker.rows(row, found)


def _by_parts(
    counter: Counter,
    image: LazyImage,
    name: str,
    spacing: tuple[float, ...] | None,
    starts: Sequence[out_of_core.StartDensity],
    bar: tqdm,
) -> Count:
    _check_content(image)

    def on_part(done: int, total: int) -> None:
        bar.set_postfix_str(f"{name}: window {done} of {total}" if done < total else "")

    def start_density(shape: tuple[int, ...], scale: Scale) -> out_of_core.TakeDensity:
        takers = [start(shape, scale) for start in starts]

        def take(box: tuple[slice, ...], values: np.ndarray) -> None:
            for taker in takers:
                taker(box, values)

        return take

    return counter.count_lazily(
        image, spacing=spacing, on_part=on_part, start_density=start_density if starts else None
    )


def _writes_density(
    image: LazyImage, target: Path, spacing: Sequence[float] | None
) -> out_of_core.StartDensity:
    def start(shape: tuple[int, ...], scale: Scale) -> writers.DensityZarr:
        each = _density_spacing(image.space_shape, shape, spacing)
        return writers.DensityZarr(target.with_name(f"{target.name}.ome.zarr"), shape, each)

    return start


def _check_content(image: LazyImage) -> None:
    """Refuses an image that declares a huge size and holds next to nothing."""
    declared = math.prod(image.shape) * image.dtype.itemsize
    held, files = 0, [image.path]
    if image.path.is_dir():
        files = [p for p in image.path.rglob("*") if p.is_file()]
    for file in files:
        held += file.stat().st_size
        if held * EMPTIEST > declared:
            return
    raise ValueError(
        f"declares {declared / 2**30:.3g} GiB of pixels and holds {held} bytes; it is damaged, or "
        "most of it is missing"
    )


def _spacing(image: LazyImage, given: Sequence[float] | None) -> tuple[float, ...] | None:
    """Micrometres per pixel: what the user says, else what the file says."""
    if given is None:
        return image.spacing
    if len(given) < image.ndim:
        raise ValueError(
            f"a volume needs a voxel size of three numbers, z y x; {len(given)} were given"
        )
    return tuple(float(s) for s in given[-image.ndim :])


def _density_spacing(
    space: Sequence[int], shape: Sequence[int], spacing: Sequence[float] | None
) -> tuple[float, ...] | None:
    if spacing is None or len(spacing) != len(space):
        return None
    return tuple(s * n / m for s, n, m in zip(spacing, space, shape, strict=True))


def _reduced(image: LazyImage) -> Image:
    """Every n-th pixel of a large image, to draw on; of a volume, its middle plane."""
    step = -(-max(image.space_shape[-2:]) // DRAWN)
    plane = [slice(n // 2, n // 2 + 1) for n in image.space_shape[:-2]]
    pixels = image.read([*plane, slice(None, None, step), slice(None, None, step)])
    return Image(pixels, None, image.channel_names, image.path)


def _shown_count(found: Count, image: LazyImage, shown: Image) -> Count:
    """The points where they lie in what is drawn."""
    if found.points is None or shown.space_shape == image.space_shape:
        return found
    step = -(-max(image.space_shape[-2:]) // DRAWN)
    points = found.points.copy()
    points[:, -2:] /= step
    if image.ndim == 3:
        points = points[np.abs(points[:, 0] - image.shape[0] // 2) <= 1]
        points[:, 0] = 0
    return dataclasses.replace(found, points=points)


def describe(space: Sequence[int], spacing: Sequence[float] | None, found: Count) -> dict[str, Any]:
    """Columns of one image: count, sizes, density per area or volume where the scale is known."""
    row: dict[str, Any] = {
        "count": round(found.count, 3),
        "n_points": "" if found.points is None else len(found.points),
        "density_sum": "" if found.density_sum is None else round(found.density_sum, 3),
        "height": space[-2],
        "width": space[-1],
        "depth": space[0] if len(space) == 3 else "",
        "area_px": space[-2] * space[-1],
    }
    known = tuple(spacing or ())
    for axis, size in zip(("spacing_x", "spacing_y", "spacing_z"), known[::-1], strict=False):
        row[axis] = size
    if len(known) == len(space) == 2:
        row["cells_per_mm2"] = found.count / (math.prod(space) * math.prod(known) * 1e-6)
    if len(known) == len(space) == 3:
        row["cells_per_mm3"] = found.count / (math.prod(space) * math.prod(known) * 1e-9)
    return row
