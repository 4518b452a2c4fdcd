"""Makes the pictures of README and docs in docs/images, from CC0 images and simulated cells.

    CELLCOUNT_RAW_DIR=RAW python docs/make_figures.py counted evaluation   # dsb2018 (CC0)
    CELLCOUNT_RAW_DIR=RAW python docs/make_figures.py bundled  # dsb2018_stained (CC0), usiigaci and
                                       # chula_rbc12 (MIT), bbbc050 (CC BY 3.0): credit them
    python docs/make_figures.py targets tiles           # simulated cells, seconds
    python docs/make_figures.py report explanation      # trains on simulated cells first, minutes

Run it in the top folder of the repository. Pages become pictures by headless Chromium, which must
be installed (CHROMIUM names another program). Runs are kept in build/figures; delete that folder to
train again.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from cellcount_jax import Counter, simulate_cells
from cellcount_jax.data import targets
from cellcount_jax.datasets.load import load_dataset

IMAGES = Path(__file__).parent / "images"
WORK = Path("build/figures")
PAGE_WIDTH, SHOWN_WIDTH = 1100, 900
"""Of a page in the browser, and of its picture."""

COLOURS = 256
"""Of a picture's palette: a screenshot of a page then stays below 200 kB."""

TYPICAL = ("e50ac10d1dce6496", "f0c9f135c62572f3", "351771edfc5db566")
"""Test images of the bundled model's training, with the median error of their group of one size."""

N_EVALUATED = 8

DARK_SHOWN = 0.6
"""Exponent of intensity that shows dim nuclei, too."""


def counted() -> None:
    """Three images that the bundled model was not trained on, with their nuclei marked."""
    counter = Counter.load("nuclei")
    samples = {s.name[:16]: s for s in _nuclei_test_images()}
    figure = Figure(figsize=(10.6, 3.45), layout="constrained")
    panels = figure.subplots(1, len(TYPICAL), width_ratios=(1, 1, 1.34))
    for axes, name in zip(panels, TYPICAL, strict=True):
        sample = samples[name]
        found = counter.count(sample.image)
        intensity = sample.image[..., 0] / sample.image.max()
        title = f"{found.count:.0f} nuclei ({len(sample.dots)} annotated)"
        _show(axes, intensity**DARK_SHOWN, title)
        y, x = found.points.T
        axes.plot(x, y, "x", color="#ff3b47", markersize=6, markeredgewidth=1.6)
    _save(figure, "counted")


def evaluation() -> None:
    """The page of `cellcount evaluate` on some of the same test images."""
    folder = WORK / "checked"
    shutil.rmtree(folder, ignore_errors=True)
    for part in ("images", "dots"):
        (folder / part).mkdir(parents=True)
    for sample in _nuclei_test_images()[:N_EVALUATED]:
        name = sample.name[:8]
        Image.fromarray(sample.image[..., 0]).save(folder / "images" / f"{name}.png")
        labels = Image.fromarray(sample.labels.astype(np.uint16))
        labels.save(folder / "dots" / f"{name}_masks.png")
    _cellcount("evaluate", folder, "--model", "nuclei", "-o", WORK / "agreement")
    _screenshot(WORK / "agreement" / "evaluation.html", "evaluation", height=1300)


def targets_of_dots() -> None:
    """Simulated cells, their dots, and the two kinds of target."""
    side = 96
    image, dots = simulate_cells(3, (side, side), 26)
    dots = np.rint(dots)
    density = targets.gaussian_density(dots, (side, side), sigma=2.0)
    inverse = targets.inverse_distance_map(dots, (side, side))
    figure = Figure(figsize=(10.6, 2.9), layout="constrained")
    panels = figure.subplots(1, 4)
    _show(panels[0], image.max(axis=-1), "simulated cells")
    _show(panels[1], image.max(axis=-1), f"{len(dots)} dots")
    panels[1].plot(dots[:, 1], dots[:, 0], "+", color="#ff3b47", markersize=8, markeredgewidth=1.8)
    _show(panels[2], density, f"density, sum {density.sum():.1f}", cmap="viridis")
    _show(panels[3], inverse, "inverse distance", cmap="viridis")
    _save(figure, "targets")


def tiles() -> None:
    """A window of a large image, its halo, and the part that is kept."""
    side, halo, at = 128, 32, (256, 128)
    image, _ = simulate_cells(5, (3 * side, 5 * side), 900)
    figure = Figure(figsize=(6.4, 3.9), layout="constrained")
    axes = figure.subplots()
    _show(axes, image.max(axis=-1), "")
    axes.vlines(np.arange(1, 5) * side, 0, 3 * side, color="w", linewidth=0.8, alpha=0.6)
    axes.hlines(np.arange(1, 3) * side, 0, 5 * side, color="w", linewidth=0.8, alpha=0.6)
    parts = (("halo", halo, "#ffd166", "--"), ("kept", 0, "#06d6a0", "-"))
    for name, margin, colour, line in parts:
        corner, length = [n - margin for n in at], side + 2 * margin
        frame = Rectangle(corner, length, length, fill=False, color=colour, lw=2.2, linestyle=line)
        axes.add_patch(frame)
        place = (corner[0] + 8, corner[1] + 20)
        outline = [patheffects.withStroke(linewidth=3, foreground="k")]
        axes.annotate(name, place, color=colour, fontsize=12, path_effects=outline)
    _save(figure, "tiles")


def report() -> None:
    """The report of `cellcount train` on simulated images."""
    folder = WORK / "cells"
    if not folder.exists():
        _cellcount("simulate", folder, "-n", "40", "--seed", "1")
    _cellcount("train", folder)
    _screenshot(folder / "cellcount" / "report.html", "report", height=1370)


def explanation() -> None:
    """A test image explained by its prototypes, and the gallery of these, on simulated cells."""
    run = WORK / "countxplain"
    config = "--config=configs/countxplain_vgg.py:quick"
    for mode in ("train", "explain"):
        _python("-m", "cellcount_jax.main", config, f"--workdir={run}", f"--mode={mode}")
    page = (run / "explanations" / "explanation.html").read_text(encoding="utf-8")
    head, *sections = re.split(r"(?=<h2>)", page)
    style = re.search(r"<style>.*?</style>", head, re.DOTALL)
    part = WORK / "explained.html"
    part.write_text(f"<meta charset=utf-8>{style and style[0]}<body>{sections[-1]}", "utf-8")
    _screenshot(part, "explanation", height=1120)
    with Image.open(run / "explanations" / "gallery.png") as gallery:
        _save_small(gallery.convert("RGB"), "prototypes", width=500)


def bundled() -> None:
    """For each of the other bundled models, a test image of median error with its cells marked."""
    figure = Figure(figsize=(10.6, 3.1), layout="constrained")
    names = ("tissue", "phase", "blood", "nuclei3d")
    for axes, name in zip(figure.subplots(1, len(names)), names, strict=True):
        counter = Counter.load(name)
        data = counter.facts["config"]["data"]
        tests = load_dataset(data["name"], protocol=data["protocol"], seed=0).splits["test"]
        found = [counter.count(s.image, spacing=s.spacing) for s in tests]
        errors = [abs(f.count - len(s.dots)) for f, s in zip(found, tests, strict=True)]
        middle = int(np.argsort(errors, kind="stable")[len(tests) // 2])
        image, points = tests[middle].image, found[middle].points
        if image.ndim == 4:
            image, points = image.max(axis=0), points[:, 1:]
        title = f"{name}: {found[middle].count:.0f} ({len(tests[middle].dots)} annotated)"
        _show(axes, image if image.shape[-1] == 3 else image[..., 0], title)
        axes.plot(points[:, 1], points[:, 0], "x", color="#ff2d6f", markersize=4)
    _save(figure, "bundled")


PICTURES: dict[str, Callable[[], None]] = {
    "counted": counted,
    "evaluation": evaluation,
    "bundled": bundled,
    "targets": targets_of_dots,
    "tiles": tiles,
    "report": report,
    "explanation": explanation,
}


def _nuclei_test_images() -> list:
    """Test split of the bundled model: it was not trained on these, nor chosen by them."""
    return load_dataset("dsb2018", protocol="by_size", seed=0).splits["test"]


def _show(axes: Axes, image: np.ndarray, title: str, cmap: str = "gray") -> None:
    axes.imshow(image, cmap=cmap, interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    axes.autoscale(False)
    axes.set_title(title, fontsize=11)


def _cellcount(*arguments: object) -> None:
    _python("-m", "cellcount_jax.cli.main", *map(str, arguments))


def _python(*arguments: str) -> None:
    """Runs a command without real data, so that only simulated cells get into the pictures."""
    hidden = {"CELLCOUNT_RAW_DIR", "TFDS_DATA_DIR"}
    environment = {k: v for k, v in os.environ.items() if k not in hidden}
    environment["TFDS_DATA_DIR"] = str(WORK / "no_prepared_data")
    subprocess.run([sys.executable, *arguments], check=True, env=environment)


def _screenshot(page: Path, name: str, *, height: int) -> None:
    """The top of a page, as Chromium shows it."""
    shot = WORK / f"{name}.png"
    subprocess.run(
        [
            os.environ.get("CHROMIUM", "chromium"),
            *("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
            f"--window-size={PAGE_WIDTH},{height}",
            f"--screenshot={shot}",
            page.resolve().as_uri(),
        ],
        check=True,
        capture_output=True,
    )
    with Image.open(shot) as image:
        _save_small(image.convert("RGB"), name, width=SHOWN_WIDTH)


def _save(figure: Figure, name: str) -> None:
    WORK.mkdir(parents=True, exist_ok=True)
    figure.savefig(WORK / f"{name}.png", dpi=100)
    with Image.open(WORK / f"{name}.png") as image:
        grey_levels = Image.Quantize.MEDIANCUT
        _save_small(image.convert("RGB"), name, width=image.width, palette=grey_levels)


def _save_small(
    image: Image.Image,
    name: str,
    *,
    width: int,
    palette: Image.Quantize = Image.Quantize.FASTOCTREE,  # keeps thin lines in their colours
) -> None:
    """Writes a picture of the docs, not wider than asked, with a palette."""
    if image.width > width:
        size = (width, round(image.height * width / image.width))
        image = image.resize(size, Image.Resampling.LANCZOS)
    IMAGES.mkdir(exist_ok=True)
    path = IMAGES / f"{name}.png"
    image.quantize(COLOURS, palette, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path}: {image.width} x {image.height}, {path.stat().st_size / 1000:.0f} kB")


def main(names: Sequence[str]) -> None:
    """Makes the named pictures, or all."""
    for name in names or PICTURES:
        if name not in PICTURES:
            sys.exit(f"no picture {name!r}; there are {', '.join(PICTURES)}")
        PICTURES[name]()


if __name__ == "__main__":
    main(sys.argv[1:])
