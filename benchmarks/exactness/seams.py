"""Seams: trained counters on images larger than their windows.

    python -m benchmarks.exactness.seams RUN_OR_FILE ... [--side 500] [--images 2]

Networks with a finite receptive field: the map by windows of several sizes on several grids against
the map of the whole image (largest difference relative to the largest value), and whether count and
points are the same. Networks with global operations: change of the count with the offset of the
grid, in percent, over `--places` offsets per axis. The images are simulated, with odd sides and the
density of cells of the VGG set, for volumes of the simulated light-sheet set; the true number of
cells is given too, to show that the counter works at all.

Prints a table with a row per run; `--out` also writes all figures as JSON.
"""

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.exactness.tile_sensitivity import grid_effect
from benchmarks.output import markdown
from cellcount_jax.inference.batched_predict import fixed_window
from cellcount_jax.inference.counter import Counter
from cellcount_jax.inference.window_pass import count_images
from cellcount_jax.simulation.simulate import simulate_cells

FRACTIONS = (0.5, 0.75)
"""Longest sides of windows, as fractions of the image's; more where two halos leave no room."""

VOXELS_PER_CELL = 1200
PIXELS_PER_CELL = 256 * 256 / 174


def test_image(shape: tuple[int, ...], seed: int) -> tuple[np.ndarray, int]:
    """A simulated image and its number of cells."""
    each = PIXELS_PER_CELL if len(shape) == 2 else VOXELS_PER_CELL
    preset = "vgg" if len(shape) == 2 else "light_sheet"
    image, dots = simulate_cells(seed, shape, round(np.prod(shape) / each), preset=preset)
    return image, len(dots)


def exactness(counter: Counter, image: np.ndarray) -> dict[str, Any]:
    """Windows against the whole, for a network that can be cut anywhere."""
    stage, prepared = counter.stage, counter.prepare(image)
    side, stride = max(prepared.space), stage.stride
    one = next(count_images(_cut(counter, side + stride).predictor, [prepared]))
    worst, counts, same, windows = 0.0, [one.count], True, set()
    for fraction in FRACTIONS:
        predictor = _cut(counter, int(fraction * side)).predictor
        for offset in (None, (stride, 0), (5 * stride, 3 * stride)):
            windows.add(len(predictor.cut(prepared.space, offset=offset)))
            other = next(count_images(predictor, [prepared], offset=offset))
            differences = [
                float(
                    np.abs(other.maps[name] - one.maps[name]).max() / np.abs(one.maps[name]).max()
                )
                for name in {stage.readout.count_map, stage.readout.points_map} - {None}
            ]
            worst = max(worst, *differences)
            counts.append(other.count)
            same &= one.points is None or np.array_equal(one.points, other.points)
    change = 100 * (max(counts) - min(counts)) / abs(one.count)
    points = None if one.points is None else len(one.points)
    found = {"count": one.count, "n_points": points, "map": worst, "change": change}
    return {**found, "same": same, "windows": sorted(windows)}


def _cut(counter: Counter, max_window: int) -> Counter:
    """The counter with windows up to that side, or as small as its halo allows."""
    room = 2 * (counter.stage.halo or 0) + 16 * counter.stage.stride
    return dataclasses.replace(counter, max_window=max(max_window, room))


def measure(path: str, side: int, images: int, places: int) -> dict[str, Any]:
    """Figures of one run over its images."""
    counter = Counter.load(path)
    ndim = 3 if _is_volume(counter) else 2
    shape = (side - 3, side + 1) if ndim == 2 else (side // 8 - 2, side // 4 + 1, side // 4 - 3)
    fixed = fixed_window(counter.stage, ndim)
    rows = []
    for seed in range(images):
        image, true = test_image(shape, seed)
        if fixed is None:
            rows.append({"true": true, **exactness(counter, image)})
        else:
            effect = grid_effect(counter, image, n=places)
            change = {"change": effect.change, "counts": effect.counts}
            rows.append({"true": true, "count": effect.counts[0], **change})
    return {"run": path, "stage": counter.stage.name, "shape": shape, "window": fixed, "rows": rows}


def _is_volume(counter: Counter) -> bool:
    window = counter.stage.window
    return isinstance(window, tuple) and len(window) == 3


def row(found: dict[str, Any]) -> list[str]:
    """A row of the table."""
    rows, window = found["rows"], found["window"]
    if window is None:
        numbers = sorted({n for r in rows for n in r["windows"]})
        cut = f"halo, {numbers[0]} to {numbers[-1]} windows"
    else:
        cut = f"windows of {' x '.join(map(str, window))}"
    worst = max((r["change"] for r in rows if r["change"] is not None), default=None)
    counts = ", ".join(f"{r['count']:.1f} of {r['true']}" for r in rows)
    parts = [found["stage"], cut, " x ".join(map(str, found["shape"])), counts]
    maps = f"{max(r['map'] for r in rows):.1e}" if window is None else "-"
    points = "-"
    if window is None and rows[0]["n_points"] is not None:
        points = "the same" if all(r["same"] for r in rows) else "differ"
    return [*parts, maps, points, "-" if worst is None else f"{worst:.3f}"]


def main() -> None:
    """Measures each run and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("runs", nargs="+", help="finished runs or model files")
    parser.add_argument("--side", type=int, default=500, help="of an image; volumes are smaller")
    parser.add_argument("--images", type=int, default=2)
    parser.add_argument("--places", type=int, default=3, help="grids per axis, fixed windows")
    parser.add_argument("--out", type=Path, help="JSON file")
    options = parser.parse_args()
    head = ["stage", "cut by", "image", "counted of true"]
    head += ["map, largest difference", "points", "count, change in %"]
    found = [measure(run, options.side, options.images, options.places) for run in options.runs]
    print(markdown(head, map(row, found)))
    if options.out:
        options.out.write_text(json.dumps(found, indent=2, default=str) + "\n")


if __name__ == "__main__":
    main()
