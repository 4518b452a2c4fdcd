"""How much a count changes when the same images come from another camera, or are saved otherwise.

    python -m benchmarks.accuracy.robustness --model nuclei --sets dsb2018_256 dsb2018_520
    python -m benchmarks.accuracy.robustness --model runs/ten_images/models/mbm_B_10_0 --sets mbm

Images of one half of a set (`benchmarks.accuracy.ten_images.sets`) are counted as they are and
changed; the table gives the median over images of the relative change of the count, the largest
one, and how many images changed by more than 15 % without a remark of the program. Images with
fewer than 10 counted cells are left out of relative figures.
"""

import argparse
import io
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy import ndimage
from skimage.transform import resize

from benchmarks.accuracy.ten_images import sets
from benchmarks.output import add_arguments, finish, markdown
from cellcount_jax.inference.counter import Counter
from cellcount_jax.prediction.remarks import remarks_of
from cellcount_jax.runtime.setup import configure_process

MIN_CELLS = 10
MAX_CHANGE = 0.15

Change = Callable[[np.ndarray], np.ndarray]


def in_unit_range(change: Change) -> Change:
    """A change of values in [0, 1], for images of any type: 255 or the image's maximum is 1."""

    def changed(pixels: np.ndarray) -> np.ndarray:
        top = 255.0 if pixels.dtype == np.uint8 else float(pixels.max())
        values = np.clip(change(pixels.astype(np.float64) / top), 0, 1) * top
        return np.round(values).astype(pixels.dtype)

    return changed


def noisy(values: np.ndarray) -> np.ndarray:
    """Gaussian noise of a standard deviation of 5 grey levels of 255."""
    return values + np.random.default_rng(0).normal(0, 5 / 255, values.shape)


def unevenly_lit(values: np.ndarray) -> np.ndarray:
    """Intensities times 0.7 at the left border to 1.3 at the right."""
    return values * np.linspace(0.7, 1.3, values.shape[-2])[:, None]


def blurred(values: np.ndarray) -> np.ndarray:
    """Blurred in the plane by a Gaussian with a sigma of 1 pixel."""
    return ndimage.gaussian_filter(values, (*(0,) * (values.ndim - 3), 1, 1, 0))


def jpeg(pixels: np.ndarray) -> np.ndarray:
    """Saved as JPEG of quality 75 and read again; other types than 8 bits are left as they are."""
    if pixels.dtype != np.uint8 or pixels.ndim != 3:
        return pixels
    file = io.BytesIO()
    Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels).save(
        file, "jpeg", quality=75
    )
    return np.asarray(Image.open(file)).reshape(pixels.shape)


def twelve_bits(pixels: np.ndarray) -> np.ndarray:
    """8-bit values times 16 as 16-bit integers, as 12-bit cameras save them."""
    return pixels.astype(np.uint16) * 16 if pixels.dtype == np.uint8 else pixels


def resized(factor: float) -> Change:
    """Resizing in the plane: linear interpolation, antialiased where the image shrinks."""

    def change(values: np.ndarray) -> np.ndarray:
        shape = (*values.shape[:-3], *(max(8, round(n * factor)) for n in values.shape[-3:-1]))
        return resize(values, (*shape, values.shape[-1]), order=1, anti_aliasing=factor < 1)

    return change


CHANGES: dict[str, Change] = {
    "offset +10": in_unit_range(lambda v: v + 10 / 255),
    "offset -10": in_unit_range(lambda v: v - 10 / 255),
    "gain 0.7": in_unit_range(lambda v: 0.7 * v),
    "gain 1.4": in_unit_range(lambda v: 1.4 * v),
    "gamma 0.8": in_unit_range(lambda v: v**0.8),
    "gamma 1.25": in_unit_range(lambda v: v**1.25),
    "12 bits in 16": twelve_bits,
    "JPEG 75": jpeg,
    "blur 1 px": in_unit_range(blurred),
    "noise 5": in_unit_range(noisy),
    "uneven light": in_unit_range(unevenly_lit),
    "half size": in_unit_range(resized(0.5)),
    "double size": in_unit_range(resized(2.0)),
}


def measure(counter: Counter, name: str, half: str, most: int) -> dict[str, dict[str, Any]]:
    """Changes of the counts of one set, by name of the change."""
    samples = sets.read_half(name, half)[:most]
    before = np.array([counter.count(s.image, spacing=s.spacing).count for s in samples])
    kept = before >= MIN_CELLS
    found = {}
    for label, change in CHANGES.items():
        after, silent = [], []
        for sample in samples:
            with remarks_of(Path(sample.name)) as remarks:
                try:
                    spacing = None if "size" in label else sample.spacing
                    after.append(counter.count(change(sample.image), spacing=spacing).count)
                except ValueError as error:  # refused, which is not a wrong count
                    after.append(np.nan)
                    remarks.append(str(error))
            silent.append(not remarks)
        ratio = np.abs(np.array(after) / np.maximum(before, 1) - 1)[kept]
        known = ratio[np.isfinite(ratio)]
        found[label] = {
            "median": float(np.median(known)) if len(known) else None,
            "most": float(known.max()) if len(known) else None,
            "silently_off": int(np.sum((ratio > MAX_CHANGE) & np.array(silent)[kept])),
            "refused": int(np.sum(~np.isfinite(ratio))),
            "images": int(kept.sum()),
        }
    return found


def table(found: dict[str, dict[str, dict[str, Any]]]) -> str:
    """A row per change, per set: median and largest change in percent, and silent ones."""
    rows = []
    for label in CHANGES:
        cells = []
        for by_change in found.values():
            one = by_change[label]
            if one["median"] is None:
                cells.append("refused")
            else:
                ends = f"{100 * one['median']:.1f} / {100 * one['most']:.0f}"
                cells.append(f"{ends} ({one['silently_off']} of {one['images']})")
        rows.append([label, *cells])
    return markdown(["change", *found], rows)


def main() -> None:
    """Measures a model on the sets and prints a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="nuclei")
    parser.add_argument("--sets", nargs="+", choices=list(sets.SETS), required=True)
    parser.add_argument("--half", choices="AB", default="B")
    parser.add_argument("--images", type=int, default=20, help="most of each set")
    add_arguments(parser)
    options = parser.parse_args()
    configure_process()
    logging.getLogger("cellcount_jax").setLevel(logging.WARNING)
    counter = Counter.load(options.model)
    found = {n: measure(counter, n, options.half, options.images) for n in options.sets}
    finish(options, "robustness", found, table(found))


if __name__ == "__main__":
    main()
