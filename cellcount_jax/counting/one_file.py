"""Counts one file, in memory or by parts, and writes its points and density."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from tqdm import tqdm

from cellcount_jax.counting import lazy, outputs
from cellcount_jax.counting.counter import Count, Counter
from cellcount_jax.counting.table import Row
from cellcount_jax.data.images import LazyPicture, Picture, open_lazy
from cellcount_jax.data.units import Scale

EMPTIEST = 4000
"""A large picture that declares more than so many bytes for each that it holds is refused."""

DRAWN = 2048
"""Longest side of what is drawn of a picture that is counted by parts."""

OnCounted = Callable[[str, Picture, Count], None]


class RowMaker(Protocol):
    """Makes the rows of one picture, such as one per region."""

    def start_density(self, whole: tuple[int, ...], scale: Scale) -> lazy.TakeDensity:
        """See `lazy.StartDensity`; only of a picture that is counted by parts."""
        ...

    def rows(self, row: Row, found: Count) -> list[Row]:
        """Rows, from the picture's own and what was found."""
        ...


RowsOf = Callable[[LazyPicture], RowMaker]
"""Called with each picture before it is counted."""


@dataclasses.dataclass(frozen=True)
class Options:
    """What a user may choose for all files of a call.

    Attributes:
      points_style: of `outputs.POINTS_STYLES`.
      density: also write density maps, as OME-TIFF, or Zarr for pictures counted by parts.
      axes: letters of the files' axes, such as "ZCYX", in place of what they say.
      channels: indices or names of the channels to use.
      voxel_size: micrometres per pixel, (y, x) or (z, y, x), in place of what the files say.
      diameter: of a cell in pixels, for models that resize pictures by it; else it is estimated.
      shard: (i, n) counts the files i, i + n, i + 2n, ... into a table of its own, i from 1.
      on_counted: called with name, picture and count of each, to draw overlays.
      rows_of: makes several rows of a picture's row, such as one per region.
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
        if self.points_style not in outputs.POINTS_STYLES:
            known = ", ".join(outputs.POINTS_STYLES)
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
      bar: shows how far a large picture is.

    Returns:
      Its row, or several if `options.rows_of` makes them.

    Raises:
      ValueError: the picture cannot be read or does not fit the network.
    """
    channels = None if options.channels is None else list(options.channels)
    with open_lazy(path, axes=options.axes, channels=channels) as picture:
        spacing = _spacing(picture, options.voxel_size)
        maker = None if options.rows_of is None else options.rows_of(picture)
        if math.prod(picture.space_shape) > lazy.LARGE:
            starts: list[lazy.StartDensity] = [] if maker is None else [maker.start_density]
            if options.density:
                starts.append(_writes_density(picture, out / "density" / name, spacing))
            found = _by_parts(counter, picture, name, spacing, starts, bar)
            shown = _reduced(picture) if options.on_counted else None
        else:
            shown = Picture(picture.read(), spacing, picture.channel_names, path)
            found = next(counter.count_all([shown.pixels], spacing=spacing))
            if options.density and found.density is not None:
                each = _density_spacing(picture.space_shape, found.density.shape, spacing)
                target = out / "density" / f"{name}.ome.tif"
                outputs.write_density(target, found.density, each)
        if found.points is not None and found.scores is not None:
            outputs.write_points(
                outputs.points_path(out, name, options.points_style),
                found.points,
                found.scores,
                style=options.points_style,
                spacing=spacing,
                image_name=path.name,
            )
        if options.on_counted is not None and shown is not None:
            options.on_counted(name, shown, _shown_count(found, picture, shown))
        row |= describe(picture.space_shape, spacing, found) | {"status": "ok"}
        return [row] if maker is None else maker.rows(row, found)


def _by_parts(
    counter: Counter,
    picture: LazyPicture,
    name: str,
    spacing: tuple[float, ...] | None,
    starts: Sequence[lazy.StartDensity],
    bar: tqdm,
) -> Count:
    _check_content(picture)

    def on_part(done: int, total: int) -> None:
        bar.set_postfix_str(f"{name}: window {done} of {total}" if done < total else "")

    def start_density(shape: tuple[int, ...], scale: Scale) -> lazy.TakeDensity:
        takers = [start(shape, scale) for start in starts]

        def take(box: tuple[slice, ...], values: np.ndarray) -> None:
            for taker in takers:
                taker(box, values)

        return take

    return counter.count_lazily(
        picture, spacing=spacing, on_part=on_part, start_density=start_density if starts else None
    )


def _writes_density(
    picture: LazyPicture, target: Path, spacing: Sequence[float] | None
) -> lazy.StartDensity:
    def start(shape: tuple[int, ...], scale: Scale) -> outputs.DensityZarr:
        each = _density_spacing(picture.space_shape, shape, spacing)
        return outputs.DensityZarr(target.with_name(f"{target.name}.ome.zarr"), shape, each)

    return start


def _check_content(picture: LazyPicture) -> None:
    """Refuses a picture that declares a huge size and holds next to nothing."""
    declared = math.prod(picture.shape) * picture.dtype.itemsize
    held, files = 0, [picture.path]
    if picture.path.is_dir():
        files = [p for p in picture.path.rglob("*") if p.is_file()]
    for file in files:
        held += file.stat().st_size
        if held * EMPTIEST > declared:
            return
    raise ValueError(
        f"declares {declared / 2**30:.3g} GiB of pixels and holds {held} bytes; it is damaged, or "
        "most of it is missing"
    )


def _spacing(picture: LazyPicture, given: Sequence[float] | None) -> tuple[float, ...] | None:
    """Micrometres per pixel: what the user says, else what the file says."""
    if given is None:
        return picture.spacing
    if len(given) < picture.ndim:
        raise ValueError(
            f"a volume needs a voxel size of three numbers, z y x; {len(given)} were given"
        )
    return tuple(float(s) for s in given[-picture.ndim :])


def _density_spacing(
    space: Sequence[int], shape: Sequence[int], spacing: Sequence[float] | None
) -> tuple[float, ...] | None:
    if spacing is None or len(spacing) != len(space):
        return None
    return tuple(s * n / m for s, n, m in zip(spacing, space, shape, strict=True))


def _reduced(picture: LazyPicture) -> Picture:
    """Every n-th pixel of a large picture, to draw on; of a volume, its middle plane."""
    step = -(-max(picture.space_shape[-2:]) // DRAWN)
    plane = [slice(n // 2, n // 2 + 1) for n in picture.space_shape[:-2]]
    pixels = picture.read([*plane, slice(None, None, step), slice(None, None, step)])
    return Picture(pixels, None, picture.channel_names, picture.path)


def _shown_count(found: Count, picture: LazyPicture, shown: Picture) -> Count:
    """The points where they lie in what is drawn."""
    if found.points is None or shown.space_shape == picture.space_shape:
        return found
    step = -(-max(picture.space_shape[-2:]) // DRAWN)
    points = found.points.copy()
    points[:, -2:] /= step
    if picture.ndim == 3:
        points = points[np.abs(points[:, 0] - picture.shape[0] // 2) <= 1]
        points[:, 0] = 0
    return dataclasses.replace(found, points=points)


def describe(space: Sequence[int], spacing: Sequence[float] | None, found: Count) -> dict[str, Any]:
    """Columns of one picture: count, sizes, density per area or volume where the scale is known."""
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
