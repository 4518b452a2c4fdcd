"""How images are resized before the network sees them, in training and prediction alike."""

import dataclasses
import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from cellcount_jax.data.cell_diameter import MAX_DIAMETER, central_diameter, scale_to
from cellcount_jax.data.patches import cut
from cellcount_jax.data.resize import Scale, in_plane, resize_sample, resized_shape
from cellcount_jax.data.sample import Sample
from cellcount_jax.io.images.readable import Readable

SAME_SIZE_TOLERANCE = 0.02
"""Relative difference below which two pixel sizes are taken to be equal."""

MAX_PIXEL_RATIO = 1.5
"""Ratio to the training images' pixel sizes above which a remark is made."""

MAX_CELL_RATIO = 1.4
"""The same for the estimated cell diameter: a false alarm is worse than none. In three draws of 140
images of seven public datasets, each compared with 20 others of its dataset, 2 of 420 got a remark
and 44 of them reduced to 0.4 of their size (`benchmarks.exactness.unlike_training`)."""

MAX_SCALE = 16.0
"""Larger ratios of two pixel sizes are refused: one of them must be wrong."""


log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Resampling:
    """How images are resized before the network sees them.

    One record per run: the samples of all splits are resized by it (`apply`), checkpoints store
    it, and a counter resizes new images by it (`scale_for`). The default leaves images as they are.

    Attributes:
      factor: Resize factor, one number or one per axis.
      patches: Arguments of `patches.cut`. Training images are cut; new ones stay whole and are
        resized as much as the patches were (see `_patch_scale`).
      pixel_size: Micrometres per pixel of the network's images if known: in the plane, or, for
        volumes, one per axis (z, y, x). Images of known pixel size are resized to it; takes
        precedence over the other fields.
      cell_diameter: Images are resized so that their cells, as estimated from the image, have
        this diameter in pixels; takes precedence over `factor` and `patches`.
      trained_diameter: Mean diameter in pixels of the cells of the network's images, to which a
        diameter given at prediction is resized; without one, `factor` is used.
    """

    factor: Scale = 1.0
    patches: Mapping[str, Any] | None = None
    pixel_size: Scale | None = None
    cell_diameter: float | None = None
    trained_diameter: float | None = None

    def __post_init__(self) -> None:
        for name in ("factor", "pixel_size", "cell_diameter", "trained_diameter"):
            value = getattr(self, name)
            if isinstance(value, Sequence):
                value = tuple(float(v) for v in value)
                object.__setattr__(self, name, value)
            if not all(0 < v < math.inf for v in np.ravel([] if value is None else value)):
                raise ValueError(f"resampling: {name}={value} must be greater than 0")

    @property
    def fixes_cell_size(self) -> bool:
        """Whether the cell diameter of the network's images is known, and not to be measured."""
        return self.cell_diameter is not None or self.trained_diameter is not None

    def scale_for(
        self, image: np.ndarray | Readable, spacing: Sequence[float] | None = None
    ) -> Scale:
        """Factor by which an image is resized before the network sees it.

        Args:
          image: Image [*space, C] as read from a file, in memory or read in parts.
          spacing: Micrometres per pixel, (y, x) or (z, y, x), if known.

        Raises:
          ValueError: The pixel sizes cannot be right, or the cell diameter of a volume would have
            to be estimated.
        """
        if spacing and self.pixel_size is not None:
            return scale_between(spacing, self.pixel_size)
        if self.cell_diameter is not None:
            return scale_to(self.cell_diameter, image)
        scale = np.multiply(self.factor, _patch_scale(self.patches, image.shape[:-1]))
        is_one = scale.ndim == 0 or bool((scale == scale.flat[0]).all())
        return float(scale.flat[0]) if is_one else tuple(scale.tolist())

    def compare(
        self,
        image: np.ndarray | Readable,
        trained: Mapping[str, Any] | None,
        scale: Scale,
        spacing: Sequence[float] | None = None,
    ) -> None:
        """Logs a warning where pixels or cells are far from those of the training images.

        Cells are measured in 2-D images in memory, because large ones are to be read once.

        Args:
          image: Image [*space, C] as given.
          trained: Result of `trained_on.describe` for images as the network sees them.
          scale: Result of `scale_for`.
          spacing: Micrometres per pixel, if known.
        """
        facts, factor = trained or {}, in_plane(scale)
        pixels, cells = facts.get("pixel_size"), facts.get("cell_size")
        if spacing and pixels and _is_far(spacing[-1] / factor, pixels, MAX_PIXEL_RATIO):
            log.warning(
                "a pixel is %.3g um, and %.3g to %.3g um in the training images: the count may be "
                "wrong; resize the image, or train with such images, too",
                *(spacing[-1], *np.multiply(pixels, factor)),
            )
        if not cells or not isinstance(image, np.ndarray):
            return
        found = central_diameter(image)
        # Textures without bright cells reach the limit, which says nothing of their size.
        if found and found < MAX_DIAMETER and _is_far(found * factor, cells, MAX_CELL_RATIO):
            log.warning(
                "its cells seem to be %.0f pixels wide, and those of the training images %.0f to "
                "%.0f: unless it is empty, the count may be wrong",
                *(found, *np.divide(cells, factor)),
            )

    def apply(self, sample: Sample) -> list[Sample]:
        """A sample as the network sees it: resized, or its patches.

        Raises:
          ValueError: The sample lacks a pixel size that is needed, or cannot be cut.
        """
        if self.pixel_size is not None:
            return [_to_pixel_size(sample, np.ravel(self.pixel_size).tolist())]
        if self.cell_diameter is not None:
            return [_resize(sample, scale_to(self.cell_diameter, sample.image))]
        resized = sample if self.factor == 1.0 else _resize(sample, self.factor)
        return cut(resized, **self.patches) if self.patches else [resized]

    def with_cell_diameter(self, diameter: float) -> "Resampling":
        """A copy for images whose cells are `diameter` pixels wide, whatever their pixel size.

        Raises:
          ValueError: The diameter is not positive, or cells were not resized to one size.
        """
        trained = self.cell_diameter or self.trained_diameter
        if trained is None:
            raise ValueError(
                "this model was not trained on cells of one size; leave the diameter out"
            )
        if not 0 < diameter < math.inf:
            raise ValueError(f"diameter {diameter}: give the cells' diameter in pixels, above 0")
        # Voxels of unknown size are taken to be as anisotropic as those of the training volumes.
        ratio = 1.0 if self.cell_diameter else np.divide(self.factor, in_plane(self.factor))
        factor = np.multiply(ratio, trained / diameter).tolist()
        return dataclasses.replace(
            self,
            factor=tuple(factor) if isinstance(factor, list) else factor,
            pixel_size=None,
            cell_diameter=None,
            trained_diameter=None,
            patches=None,
        )

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON types, read back by `from_dict`."""
        fields = dataclasses.asdict(self)
        return {k: list(v) if isinstance(v, tuple) else v for k, v in fields.items()}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "Resampling":
        """From the fields of `to_dict`.

        Raises:
          ValueError: Unknown field, or a value out of range.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        if unknown := sorted(set(fields) - known):
            raise ValueError(f"resampling: unknown fields {unknown}; known are {sorted(known)}")
        return cls(**fields)


def _is_far(value: float, known: Sequence[float], ratio: float) -> bool:
    return not known[0] / ratio <= value <= known[1] * ratio


def _patch_scale(rule: Mapping[str, Any] | None, shape: Sequence[int]) -> Scale:
    """Factor per axis by which a rule of `patches.cut` resizes an image of space shape `shape`."""
    if not rule:
        return 1.0
    sides = np.array([max(shape)] * len(shape) if rule.get("pad_square") else shape, float)
    scale = np.ones(len(shape))
    if rule.get("resize_to_multiple"):
        multiple = rule["resize_to_multiple"]
        scale = np.maximum(1, np.rint(sides / multiple)) * multiple / sides
    if rule.get("resize"):
        scale *= rule["resize"] / (rule.get("tile") or sides * scale)
    return tuple(scale.tolist())


def _resize(sample: Sample, scale: Scale) -> Sample:
    return resize_sample(sample, resized_shape(sample.image.shape[:-1], scale))


def _to_pixel_size(sample: Sample, pixel_size: Sequence[float]) -> Sample:
    if sample.spacing is None or len(sample.spacing) != len(pixel_size):
        raise ValueError(
            f"{sample.name}: its voxel size is not known, so config.data.voxel_size cannot be used"
        )
    resized = _resize(sample, scale_between(sample.spacing, pixel_size))
    # Sides are whole pixels, so sizes differ slightly between volumes; they are taken as equal.
    return dataclasses.replace(resized, spacing=tuple(pixel_size))


def common_pixel_size(samples: Iterable[Sample]) -> Scale | None:
    """Micrometres per pixel that all samples share.

    Returns:
      The in-plane size for images, one per axis for volumes; None if a sample has no pixel size,
      or a different one.
    """
    spacings = [sample.spacing for sample in samples]
    if not spacings or any(s is None or len(s) != len(spacings[0] or ()) for s in spacings):
        return None
    sizes = np.array(spacings, np.float64)
    middle = np.median(sizes, axis=0)
    if not (np.isfinite(sizes).all() and (sizes > 0).all()):
        return None
    if (np.abs(sizes / middle - 1) >= SAME_SIZE_TOLERANCE).any():
        return None
    rounded = [round(float(size), 6) for size in middle]
    return rounded[-1] if len(rounded) == 2 else tuple(rounded)


def scale_between(spacing: Sequence[float], pixel_size: float | Sequence[float]) -> Scale:
    """Factor that brings an image to the pixel size of a network.

    Args:
      spacing: Micrometres per pixel of the image, (y, x) or (z, y, x).
      pixel_size: Pixel size of the training images: one number, in the plane, and all axes are
        resized alike; or one per axis, each resized on its own.

    Raises:
      ValueError: The sizes are so far apart that one of them must be wrong.
    """
    trained = [float(size) for size in np.ravel(pixel_size)]
    scale = [float(spacing[-1]) / trained[-1]] * len(spacing)
    if len(trained) == len(spacing):
        scale = [float(s) / t for s, t in zip(spacing, trained, strict=True)]
    if not all(1 / MAX_SCALE <= s <= MAX_SCALE for s in scale):
        own, others = (" x ".join(f"{s:g}" for s in np.ravel(x)) for x in (spacing, trained))
        raise ValueError(
            f"a pixel is {own} um and the model was trained at {others} um; one of them must be "
            "wrong: give the right size with --voxel-size"
        )
    return _short(scale)


def _short(values: list[float]) -> Scale:
    """One number if all are equal, and for images, whose pixels are assumed to be square."""
    if len(values) == 2 or all(
        abs(value / values[-1] - 1) < SAME_SIZE_TOLERANCE for value in values
    ):
        return values[-1]
    return tuple(values)
