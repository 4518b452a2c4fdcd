"""Rescales training images to a common mean cell diameter, with jitter.

Microscopes differ tenfold in magnification. A small network that sees cells of one size learns
more from the same images than a large one that must know all sizes; in return each image is
resized before it is counted (`data.cell_diameter` estimates by how much).
"""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
from scipy import ndimage

from cellcount_jax.data.cell_diameter import estimate_diameter, mean_diameter
from cellcount_jax.data.resampling import Resampling
from cellcount_jax.data.sample import Sample
from cellcount_jax.datasets.load import SplitDataset, resampled
from cellcount_jax.simulation.simulate import simulate_cells

SIMULATED_CELLS = (5, 150)
"""Fewest and most cells of a simulated image of 256 x 256 pixels before resizing."""

EMPTY_IMAGE_INTERVAL = 5
"""One in this many simulated images is empty, to teach that stretched background is not a cell."""

NOISE_SIDE = 256
"""Sides in pixels of an image of pure noise: a camera on an empty field."""

GRAIN_SIGMA = 3.0
"""Typical sigma in pixels of the grain of autofluorescence: finer than a nucleus."""


def normalise_cell_diameter(
    dataset: SplitDataset,
    *,
    diameter: float,
    jitter: float,
    copies: int,
    window: int,
    n_simulated: int,
    n_noise: int = 0,
    autofluorescence: float = 0.0,
    seed: int,
) -> SplitDataset:
    """Resizes every image so that its cells have one mean diameter.

    Training images are resized by their true mean diameter, times a random factor that stands for
    the error of an estimate, and are cut into windows, so that images of all sizes fit into one
    array. The other splits are resized by the estimate, as new images will be.

    Args:
      dataset: Labelled images with instance masks.
      diameter: Cell diameter in pixels.
      jitter: Training sizes are drawn between `diameter / jitter` and `diameter * jitter`, evenly
        on a logarithmic scale.
      copies: Number of times each training image is used, each time at another size.
      window: Longest side of a training window in pixels.
      n_simulated: Number of simulated images that are added to the training split.
      n_noise: Number of images of pure noise that are added to the training split.
      autofluorescence: Fraction of the training copies to which `add_autofluorescence` is applied.
      seed: Seed of sizes, simulated cells, noise and autofluorescence.

    Raises:
      ValueError: A training image has no mask of its cells.
    """
    train = [*dataset.splits["train"], *_simulated(n_simulated, seed), *_noise(n_noise, seed)]
    rng = np.random.default_rng(seed)
    windows = []
    for sample in train:
        bare = dataclasses.replace(sample, labels=None)
        for copy in range(copies):
            factor = jitter ** rng.uniform(-1, 1)
            to_diameter = Resampling(factor * diameter / _training_diameter(sample, diameter))
            (resized,) = to_diameter.apply(bare)
            image = resized.image
            if rng.random() < autofluorescence:
                image = add_autofluorescence(image, rng)
            named = dataclasses.replace(resized, name=f"{sample.name}~{copy}", image=image)
            # A window is normalised by its own intensity range: without cells that is noise.
            windows += [w for w in cut_windows(named, window) if w.count or not sample.count]
    others = {
        split: [dataclasses.replace(sample, labels=None) for sample in samples]
        for split, samples in dataset.splits.items()
        if split != "train"
    }
    found = resampled(
        dataclasses.replace(dataset, splits=others), Resampling(cell_diameter=diameter)
    )
    description = (
        f"{dataset.description}; cells resized to {diameter:g} px, {len(windows)} training "
        f"windows, {n_simulated} simulated images and {n_noise} of noise among them"
    )
    splits = {"train": windows, **found.splits}
    return dataclasses.replace(found, splits=splits, description=description)


def add_autofluorescence(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Adds non-cell fluorescence: yolk, out-of-focus tissue, a fluorescent medium.

    An ellipse with a soft rim, grainy inside: on average 0.1 to 0.8 as bright as the brightest
    cells, its grains up to twice that.

    Args:
      image: Image [H, W, C] of integers.
      rng: Draws position, size, strength and grain.

    Returns:
      An image of the same shape and dtype.
    """
    shape = image.shape[:2]
    low, high = np.percentile(image, (1.0, 99.8))
    grid = np.indices(shape, np.float32)
    away = [
        (axis - rng.uniform(0, n)) / (rng.uniform(0.15, 0.6) * n)
        for axis, n in zip(grid, shape, strict=True)
    ]
    within = 1 / (1 + np.exp(np.clip(rng.uniform(3, 12) * (np.hypot(*away) - 1), -30, 30)))
    grain = ndimage.gaussian_filter(rng.standard_normal(shape), GRAIN_SIGMA * rng.uniform(0.5, 2))
    grain *= rng.uniform(0.05, 0.3) / max(grain.std(), 1e-9)
    light = rng.uniform(0.1, 0.8) * (high - low) * within * (1 + grain)
    most = np.iinfo(image.dtype).max
    return np.clip(np.rint(image + light[..., None]), 0, most).astype(image.dtype)


def cut_windows(sample: Sample, longest: int) -> Iterator[Sample]:
    """Cuts a 2-D image into nearly equal windows, each dot in exactly one.

    Args:
      sample: Sample with dots.
      longest: Maximum side of a window in pixels.
    """
    edges = [
        np.linspace(0, n, -(-n // longest) + 1).round().astype(int) for n in sample.image.shape[:2]
    ]
    assert sample.dots is not None
    # A pixel reaches half a step to both sides of its centre.
    row, column = (
        np.clip(np.searchsorted(e, d + 0.5, side="right") - 1, 0, len(e) - 2)
        for e, d in zip(edges, sample.dots.T, strict=True)
    )
    for i in range(len(edges[0]) - 1):
        for j in range(len(edges[1]) - 1):
            top, left = edges[0][i], edges[1][j]
            inside = (row == i) & (column == j)
            yield dataclasses.replace(
                sample,
                name=f"{sample.name}@{i}-{j}",
                group=sample.name,
                image=sample.image[top : edges[0][i + 1], left : edges[1][j + 1]],
                dots=sample.dots[inside] - np.array([top, left], np.float32),
            )


def _training_diameter(sample: Sample, otherwise: float) -> float:
    """Mean diameter in pixels from the mask; for an image without cells, the estimate."""
    if sample.labels is None:
        raise ValueError(f"{sample.name}: no mask of its cells, so their size is not known")
    return mean_diameter(sample.labels) or estimate_diameter(sample.image) or otherwise


def _simulated(n: int, seed: int) -> Sequence[Sample]:
    """Grey simulated images with masks."""
    samples = []
    for i in range(n):
        number = int(np.random.default_rng([seed, i]).integers(*SIMULATED_CELLS))
        number = 0 if i % EMPTY_IMAGE_INTERVAL == 0 else number
        image, dots, labels = simulate_cells([seed, i], (256, 256), number, return_labels=True)
        grey = np.rint(image.mean(axis=-1, keepdims=True)).astype(np.uint8)
        samples.append(Sample(f"simulated_{i:04d}", grey, dots, "simulated", labels=labels))
    return samples


def _noise(n: int, seed: int) -> Sequence[Sample]:
    """Images without cells: noise of any strength and grain on an uneven background."""
    samples = []
    side = np.linspace(-1.0, 1.0, NOISE_SIDE)
    for i in range(n):
        rng = np.random.default_rng([seed, i, 1])
        grain = ndimage.gaussian_filter(
            rng.standard_normal((NOISE_SIDE, NOISE_SIDE)),
            rng.choice([0.0, 0.5, 1.0, 1.5]),
        )
        slope = rng.normal(size=2) * rng.choice([0.0, 1.0])  # in units of noise
        uneven = slope[0] * side[:, None] + slope[1] * side
        image = 30 + rng.uniform(1.5, 8.0) * (grain / grain.std() + uneven)
        grey = np.clip(np.rint(image), 0, 255).astype(np.uint8)[..., None]
        nothing = np.zeros((0, 2), np.float32), np.zeros(grey.shape[:2], np.uint16)
        samples.append(Sample(f"noise_{i:04d}", grey, nothing[0], "noise", labels=nothing[1]))
    return samples
