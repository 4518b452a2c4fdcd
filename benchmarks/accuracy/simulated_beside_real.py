"""Draws simulated images beside images of the VGG cell set, for visual comparison.

    CELLCOUNT_RAW_DIR=DIR python -m benchmarks.accuracy.simulated_beside_real --out FILE.png
    ... --blind     shuffles them without titles and prints which is which
    ... --dots      marks the true centres

Every simulated image has as many cells as its real counterpart. The last row shows the intensity
histograms and power spectra of both sets of six. The VGG images are not distributed with this
project; the figure is made on the user's machine.
"""

import argparse
import os
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from PIL import Image

from cellcount_jax.simulation.simulate import simulate_cells

COLUMNS = 6
ImageAndDots = tuple[np.ndarray, np.ndarray]


def read_real(folder: Path, chosen: np.ndarray) -> list[ImageAndDots]:
    """Images [H, W, 3] uint8 and dots [N, 2] of the chosen numbers, from 1."""
    images = []
    for number in chosen:
        image = np.asarray(Image.open(folder / f"{number:03d}cell.png").convert("RGB"))
        marks = np.asarray(Image.open(folder / f"{number:03d}dots.png").convert("RGB"))
        images.append((image, np.argwhere(marks[..., 0] == 255)))
    return images


def simulate_like(real: list[ImageAndDots], seed: int) -> list[ImageAndDots]:
    """One simulated image for each real one, of its size and count."""
    return [
        simulate_cells([seed, i], image.shape[:2], len(dots), preset="vgg")
        for i, (image, dots) in enumerate(real)
    ]


def power_spectrum(images: list[ImageAndDots]) -> tuple[np.ndarray, np.ndarray]:
    """Radial mean of the blue channel's power, against cycles per pixel."""
    power = np.zeros_like(images[0][0][..., 2], np.float64)
    for image, _ in images:
        blue = image[..., 2].astype(np.float64)
        window = np.hanning(blue.shape[0])[:, None] * np.hanning(blue.shape[1])
        power += np.abs(np.fft.fft2((blue - blue.mean()) * window)) ** 2
    f = np.hypot(np.fft.fftfreq(power.shape[0])[:, None], np.fft.fftfreq(power.shape[1]))
    bins = np.linspace(0, 0.5, 33)
    at = np.digitize(f.ravel(), bins)
    mean = [power.ravel()[at == i].mean() for i in range(1, len(bins))]
    return 0.5 * (bins[1:] + bins[:-1]), np.asarray(mean)


def show(axes: Axes, pair: ImageAndDots, title: str, dots: bool) -> None:
    image, points = pair
    axes.imshow(image, interpolation="nearest")
    if dots:
        axes.plot(points[:, 1], points[:, 0], ".", color="yellow", markersize=1.5)
    axes.set_title(title, fontsize=9)
    axes.axis("off")


def draw(
    real: list[ImageAndDots],
    simulated: list[ImageAndDots],
    out: Path,
    *,
    dots: bool,
    blind: bool,
    seed: int,
) -> str:
    """Writes the figure; returns the kinds of the images, row by row: R real, S simulated."""
    figure = plt.figure(figsize=(3 * COLUMNS, 11), layout="constrained")
    grid = figure.add_gridspec(3, 2 * COLUMNS)
    pairs = [("S", s) for s in simulated] + [("R", r) for r in real]
    if blind:
        order = np.random.default_rng(seed).permutation(len(pairs))
        pairs = [pairs[i] for i in order]
    for i, (kind, image) in enumerate(pairs):
        row, column = divmod(i, COLUMNS)
        axes = figure.add_subplot(grid[row, 2 * column : 2 * column + 2])
        name = {"S": "simulated", "R": "VGG"}[kind] + f", {len(image[1])} cells"
        show(axes, image, str(i + 1) if blind else name, dots)
    left = figure.add_subplot(grid[2, :COLUMNS])
    right = figure.add_subplot(grid[2, COLUMNS:])
    for name, images in (("simulated", simulated), ("VGG", real)):
        blue = np.concatenate([image[..., 2].ravel() for image, _ in images])
        left.hist(blue, bins=64, range=(0, 256), histtype="step", density=True, label=name)
        right.semilogy(*power_spectrum(images), label=name)
    left.set(xlabel="blue, grey levels", ylabel="frequency", yscale="log")
    right.set(xlabel="cycles per pixel", ylabel="power of the blue channel")
    left.legend()
    right.legend()
    figure.savefig(out, dpi=100)
    plt.close(figure)
    return "".join(kind for kind, _ in pairs)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="the PNG to write")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dots", action="store_true", help="mark the true centres")
    parser.add_argument("--blind", action="store_true", help="mix them; the key is printed")
    arguments = parser.parse_args()
    root = os.environ.get("CELLCOUNT_RAW_DIR")
    folder = Path(root or "") / "vgg_cells"
    if not root or not folder.is_dir():
        sys.exit("CELLCOUNT_RAW_DIR must name a folder that holds vgg_cells (NNNcell.png files)")
    n = len(list(folder.glob("*cell.png")))
    chosen = np.random.default_rng(arguments.seed).choice(n, COLUMNS, replace=False) + 1
    real = read_real(folder, chosen)
    simulated = simulate_like(real, arguments.seed)
    key = draw(
        real,
        simulated,
        arguments.out,
        dots=arguments.dots,
        blind=arguments.blind,
        seed=arguments.seed,
    )
    print(f"wrote {arguments.out}" + (f"; row by row: {key}" if arguments.blind else ""))


if __name__ == "__main__":
    main()
