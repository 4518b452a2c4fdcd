"""What a model was trained on; checks new images against it and adapts, warns or rejects.

A wrong intensity range, colour or cell size gives a wrong count without any error, so a model
records those of its training images, and every image is compared with them.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from cellcount_jax.data import outliers
from cellcount_jax.data.cell_diameter import MAX_DIAMETER, central_diameter
from cellcount_jax.data.preprocess import Preprocessing
from cellcount_jax.data.sample import Sample
from cellcount_jax.io.images.readable import Adapted, Readable, sample_grid

log = logging.getLogger(__name__)

GREY, GREY_AS_COLOUR, COLOUR, CONSTANT, MIXED = (
    *("grey", "grey saved as colour", "colour", "without contrast", "of several kinds"),
)
ONE_COLOUR = ("only red", "only green", "only blue")

EMPTY_SPAN = 0.05
"""A colour channel whose range is at most this fraction of the largest is empty: JPEG leaves some
values in it."""

BRIGHT = 99.8
"""Percentile that stands for the intensity of the cells."""

BIT_DEPTHS = (8, 10, 12, 14, 16)
"""Usual bit depths of cameras, whose values are often stored in 16 bits."""

MAX_INTENSITY_RATIO = 2.0
"""Ratio to the intensities of all training images above which a remark is made."""

MAX_RATIO_OF_OTHER_TYPES = 1.15
"""The same for images of a type that the model was not trained on; these are rejected."""

MAX_CLIPPED = 0.02
"""Fraction of values at the maximum of their type above which a remark is made."""

MIN_MEASURED, MAX_MEASURED = 5, 20
"""Number of training images whose cells are measured; fewer do not show how the estimate varies."""

MAX_DESCRIBED = 500
"""Maximum number of training images that are described: of more, every n-th."""


def describe(samples: Sequence[Sample], *, measure_cells: bool = True) -> dict[str, Any]:
    """Describes the training images, as plain JSON, for comparison with new images.

    Args:
      samples: Samples as the network sees them.
      measure_cells: False if the size of the cells is known otherwise, or varied on purpose.

    Returns:
      `channels` (number), `channel_names` if they are the same in all, `kind` of colour, `types` of
      the values, `ndim`, `shape` (median), and of three numbers the lowest and the highest:
      `bright`, the 99.8th percentile of an image as a share of its type's maximum, `pixel_size` in
      micrometres along x, and `cell_size` in pixels, an estimate; None where they are not known.
    """
    samples = samples[:: -(-len(samples) // MAX_DESCRIBED)]
    views = [_sampled(s.image) for s in samples]
    kinds = {_kind(v) for v in views} - {CONSTANT}
    bright = [_intensity(v, s.image.dtype) for v, s in zip(views, samples, strict=True)]
    sizes = [s.spacing[-1] for s in samples if s.spacing]
    measure_cells &= samples[0].image.ndim == 3
    measured = [s.image for s in samples[:: -(-len(samples) // MAX_MEASURED)]]
    cells = [d for d in map(central_diameter, measured) if d] if measure_cells else []
    names = {s.channel_names for s in samples}
    return {
        "channels": int(samples[0].image.shape[-1]),
        "channel_names": list(names.pop()) if len(names) == 1 else [],
        "kind": kinds.pop() if len(kinds) == 1 else MIXED,
        "types": sorted({str(s.image.dtype) for s in samples}),
        "ndim": samples[0].image.ndim - 1,
        "shape": np.median([s.image.shape[:-1] for s in samples], axis=0).tolist(),
        "pixel_size": _range(sizes) if len(sizes) == len(samples) else None,
        "cell_size": _range(cells) if _are_sizes(cells) else None,
        "bright": _range(bright),
    }


def fit(
    image: np.ndarray | Readable,
    trained: Mapping[str, Any] | None,
    preprocessing: Preprocessing,
    *,
    names: Sequence[str] = (),
) -> Any:
    """An image adapted to the model's training images; the log says what was changed or is
    doubtful.

    Args:
      image: Image [*space, C], an array or read in parts.
      trained: Result of `describe`; None for models of earlier versions.
      preprocessing: Preprocessing of the model.
      names: Names of the image's channels, if known from its file.

    Returns:
      The image, or the one to read in its place; an array for an array.

    Raises:
      ValueError: The model would count it wrong.
    """
    _check_axes(len(image.shape) - 1, trained)
    image, view = outliers.replace_outliers(in_known_channels(image, names, trained))
    if view.size and view.shape == tuple(image.shape) and view.min() == view.max():
        log.warning("is constant (value %g): no cells can be counted", view.flat[0])
    top = np.iinfo(view.dtype).max if view.dtype.kind in "ui" else np.inf
    if MAX_CLIPPED < (clipped := float(np.mean(view == top))) < 1:
        log.warning(
            "%.0f %% of its values are the highest that its type holds (%d): overexposed, or "
            "filled, and the count may be wrong",
            *(100 * clipped, top),
        )
    image, view = _fit_colour(image, view, trained, preprocessing.channels, names)
    if preprocessing.normalise == "dtype" and image.dtype.kind in "ui" and image.dtype.itemsize < 3:
        return _fit_intensity(image, view, trained)
    return image


def _check_axes(ndim: int, trained: Mapping[str, Any] | None) -> None:
    """Raises ValueError for a volume if the model was trained on images, or the other way round."""
    known = (trained or {}).get("ndim", ndim)
    if (known, ndim) == (2, 3):
        raise ValueError(
            "this model was trained on 2-D images, and this is a volume; count its planes with "
            "--per-slice, or a projection of it, or train on volumes"
        )
    if known != ndim:
        raise ValueError(
            "this model was trained on volumes, and this is a 2-D image; choose a model for images"
        )


def in_known_channels(image: Any, names: Sequence[str], trained: Mapping[str, Any] | None) -> Any:
    """The image [*space, C] with the channels of the training images, in their order, by name.

    Where the names do not say which these are, it is the image as it was; the log says both.
    """
    known = (trained or {}).get("channel_names") or ()
    own, wanted = ([name.strip().casefold() for name in given] for given in (names, known))
    if not known or len(own) != image.shape[-1] or own == wanted:
        return image
    said = ", ".join(names), ", ".join(known)
    if not set(wanted) <= set(own) or len(set(own)) < len(own):
        log.warning("its channels are %s; the model was trained on %s: look at the points", *said)
        return image
    log.warning("its channels are %s; counted in %s, as the model was trained", *said)
    order = [own.index(name) for name in wanted]
    nothing = np.empty((0, image.shape[-1]), image.dtype)
    return _change(image, nothing, lambda part: part[..., order])[0]


def _are_sizes(cells: Sequence[float]) -> bool:
    """Whether estimates show how large cells are: enough of them, and none at its upper limit,
    which textures without bright cells (stained tissue) reach."""
    return len(cells) >= MIN_MEASURED and max(cells) < MAX_DIAMETER


def _range(values: Sequence[float]) -> list[float]:
    return [float(min(values)), float(max(values))]


def _fit_colour(
    image: Any,
    view: np.ndarray,
    trained: Mapping[str, Any] | None,
    channels: int,
    names: Sequence[str],
) -> tuple[Any, np.ndarray]:
    """The image and its sample with the channels of the training images."""
    kind = _kind(view)
    known = (trained or {}).get("kind", GREY if channels == 1 else MIXED)
    if kind in (known, CONSTANT) or known == MIXED:
        return image, view
    if kind in ONE_COLOUR and known in (GREY, GREY_AS_COLOUR, *ONE_COLOUR):
        place = ONE_COLOUR.index(kind)
        log.warning("holds %s; counted as %s, as the model was trained", kind, known)
        to = ONE_COLOUR.index(known) if known in ONE_COLOUR else None
        return _change(image, view, lambda part: _moved(part, place, to))
    if kind == GREY_AS_COLOUR and known == GREY:
        return _change(image, view, lambda part: part[..., :1])
    if kind in (GREY, GREY_AS_COLOUR) and known in (COLOUR, *ONE_COLOUR):
        raise ValueError(
            f"is {kind}, and the model was trained on colour images ({known}), so its count would "
            "be wrong; give the colour image, or train a model on grey ones"
        )
    wanted = channels if trained is None else trained["channels"]
    is_other = wanted != view.shape[-1] and (trained is not None or wanted == 1)
    if is_other and kind not in (GREY, GREY_AS_COLOUR, COLOUR, *ONE_COLOUR):
        named = f" ({', '.join(names)})" if names else ""
        raise ValueError(
            f"has {view.shape[-1]} channels{named}, and the model was trained on images of "
            f"{wanted} ({known}); choose the channels to count with --channels, by number (the "
            "first is 0) or name"
        )
    if (kind, known) != (GREY, GREY_AS_COLOUR) and trained is not None:
        how = "its channels are averaged" if known == GREY else "look at the points"
        log.warning("is %s, and the model was trained on images that are %s; %s", kind, known, how)
    return image, view


def _fit_intensity(image: Any, view: np.ndarray, trained: Mapping[str, Any] | None) -> Any:
    """The image with intensities as a fraction of the camera's range, not the file's."""
    bits = 8 * image.dtype.itemsize
    top = float(np.percentile(view, 99.9))  # A few hot pixels say nothing of the camera.
    depth = next((b for b in BIT_DEPTHS if 2**b - 1 >= top), bits)
    if trained is None:
        if bits == 16 and depth <= 12:
            log.warning(
                "uses %d of 16 bits (brightest %g), and the model's file does not say how bright "
                "its training images were: if they had 8 bits, save this image with 8 bits",
                *(depth, top),
            )
        return image
    share = _intensity(view, image.dtype)
    if bits == 16 and depth < 16 and trained["types"] == ["uint8"]:
        full = np.float32(2**depth - 1)
        log.warning(
            "holds %d bits in a file of 16; its values are divided by %d, because the model was "
            "trained on images of 8 bits",
            *(depth, full),
        )
        share *= 65535 / float(full)
        image = _change(image, view, lambda part: np.clip(part / full, 0, 1).astype(np.float32))[0]
    low, high = trained["bright"]
    other_type = str(view.dtype) not in trained["types"]
    ratio = MAX_RATIO_OF_OTHER_TYPES if other_type else MAX_INTENSITY_RATIO
    if other_type and not low / ratio <= share <= ratio * high:
        raise ValueError(
            f"is of type {view.dtype} and its brightest parts reach {100 * share:.0f} % of the "
            f"range; those of the training images ({', '.join(trained['types'])}) reach "
            f"{100 * low:.0f} to {100 * high:.0f} %, so the count would be wrong: convert it as "
            "those were"
        )
    if not low / ratio <= share <= ratio * high:
        log.warning(
            "its brightest parts reach %.0f %% of the range, those of the training images %.0f to "
            "%.0f %%: unless it is empty, the count may be wrong",
            *(100 * share, 100 * low, 100 * high),
        )
    return image


def _change(
    image: Any, view: np.ndarray, change: Callable[[np.ndarray], np.ndarray]
) -> tuple[Any, np.ndarray]:
    changed = change(view)
    if isinstance(image, np.ndarray):
        return change(image), changed
    shape = (*image.shape[:-1], changed.shape[-1])
    return Adapted(image, shape, changed.dtype, change), changed


def _moved(part: np.ndarray, place: int, wanted: int | None) -> np.ndarray:
    """One channel alone, or in another place among channels that are 0."""
    one = part[..., place : place + 1]
    if wanted is None:
        return one
    result = np.zeros_like(part)
    result[..., wanted] = one[..., 0]
    return result


def _sampled(image: np.ndarray | Readable) -> np.ndarray:
    grid = sample_grid(tuple(image.shape))
    return image[grid] if isinstance(image, np.ndarray) else image.read(grid)


def _kind(view: np.ndarray) -> str:
    """Kind of colour of the values [*space, C]."""
    if view.shape[-1] == 1:
        return GREY
    flat = view.reshape(-1, view.shape[-1])
    spans = flat.max(axis=0).astype(np.float64) - flat.min(axis=0)
    if not (spans > 0).any():
        return CONSTANT
    if view.shape[-1] != 3:
        return f"of {view.shape[-1]} channels"
    if (flat[:, 0] == flat[:, 1]).all() and (flat[:, 0] == flat[:, 2]).all():
        return GREY_AS_COLOUR
    held = np.flatnonzero(spans > EMPTY_SPAN * spans.max())
    return ONE_COLOUR[held[0]] if len(held) == 1 else COLOUR


def _intensity(view: np.ndarray, dtype: np.dtype) -> float:
    full = float(np.iinfo(dtype).max) if dtype.kind in "ui" else 1.0
    return float(np.percentile(view.astype(np.float32), BRIGHT)) / full
