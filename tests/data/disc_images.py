"""Images of bright discs with exact masks, for everything that depends on the size of cells."""

import numpy as np

from cellcount_jax.data.sample import Sample


def discs(shape, diameter, *, n=12, seed=0, tissue=0.0):
    """Bright discs apart from each other on an uneven background: [H, W, 1] uint8, dots, labels."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]]
    labels, dots = np.zeros(shape, np.uint16), []
    for _ in range(1000):
        at = rng.uniform(diameter / 2 + 1, np.array(shape) - diameter / 2 - 1)
        if len(dots) < n and all(np.hypot(*(at - d)) > 1.3 * diameter for d in dots):
            dots.append(at)
            labels[np.hypot(y - at[0], x - at[1]) <= diameter / 2] = len(dots)
    y_share, x_share = y / shape[0] - 0.5, x / shape[1] - 0.5
    background = 20 + 100 * tissue * np.exp(-8 * (y_share**2 + x_share**2))
    image = background + 90 * (labels > 0) + rng.normal(0, 3, shape)
    return np.clip(image, 0, 255).astype(np.uint8)[..., None], np.array(dots, np.float32), labels


def sample_of(name, diameter, shape=(120, 150), **options):
    image, dots, labels = discs(shape, diameter, **options)
    return Sample(name, image, dots, f"{shape[0]}x{shape[1]}", labels=labels)
