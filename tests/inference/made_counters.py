"""Counters of every method with random weights, small and quick to build."""

import dataclasses
import functools
import importlib

import jax
import jax.numpy as jnp
import numpy as np

from cellcount_jax.data.preprocess import Preprocessing
from cellcount_jax.inference.counter import Counter
from cellcount_jax.methods import build_stages
from cellcount_jax.simulation.simulate import simulate_cells

CONFIGS = {
    "density": "density_vgg",
    "csrnet": "csrnet_vgg",
    "countxplain": "countxplain_vgg",
    "dcl": "dcl_vgg",
    "consistency": "consistency_vgg",
    "consistency_3d": "consistency_light_sheet",
}
"""Config of each method; their tiny presets are built."""

GLOBAL_WINDOW = {2: 48, 3: 16}
"""Side of the fixed windows, in place of the large ones of the methods."""


@functools.cache
def made(method: str) -> Counter:
    """A counter whose maps are not flat, with points where the method has any."""
    config = importlib.import_module(f"configs.{CONFIGS[method]}").get_config("tiny")
    if method == "density":
        config.model.channels = (4, 6, 8)
    if "width" in config.model:
        config.model.width = 1 / 16
    ndim = 3 if method.endswith("3d") else 2
    stages = build_stages(config)
    channels = config.preprocessing.channels
    previous: dict = {}
    for stage in stages:
        # Shapes alone: compiling the initialisation would take longer than all else.
        shapes = jax.eval_shape(stage.init, jax.random.key(0), _batch(ndim, channels), previous)
        previous[stage.name] = _filled(shapes)
    stage, variables = stages[-1], previous[stages[-1].name]
    if stage.window is not None:
        stage = dataclasses.replace(stage, window=GLOBAL_WINDOW[ndim])
    # The heights of random maps have no meaning but to each other.
    readout = dataclasses.replace(stage.readout, reference=None, threshold=0.3)
    stage = dataclasses.replace(stage, readout=readout)
    return Counter(stage, variables, Preprocessing(channels=channels, normalise="percentile"))


def _filled(shapes):
    """Weights that keep the signal's size, statistics of nothing normalised, biases above 0."""
    rng = np.random.default_rng(0)

    def fill(path, leaf):
        name = getattr(path[-1], "key", "")
        if name in ("scale", "var"):
            return np.ones(leaf.shape, leaf.dtype)
        if name == "bias":
            return np.full(leaf.shape, 0.1, leaf.dtype)
        if name == "kernel":
            spread = (2 / max(1, np.prod(leaf.shape[:-1]))) ** 0.5
            drawn = rng.normal(0, spread, leaf.shape).astype(leaf.dtype)
            return np.abs(drawn) if getattr(path[-2], "key", "") == "head" else drawn
        return np.zeros(leaf.shape, leaf.dtype)

    return jax.tree_util.tree_map_with_path(fill, shapes)


def _batch(ndim: int, channels: int) -> dict:
    space = (32, 32) if ndim == 2 else (16, 16, 16)
    rows = {
        "image": jax.random.normal(jax.random.key(1), (2, *space, channels)),
        "target": jnp.full((2, *space), 0.01),
        "count": jnp.full(2, 5.0),
        "mask": jnp.ones(2),
        "index": jnp.arange(2),
    }
    return {"labelled": rows}


def cells(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """A simulated image [*shape, C], crowded enough for cells on every seam."""
    preset = "vgg" if len(shape) == 2 else "light_sheet"
    count = int(np.prod(shape)) // (150 if len(shape) == 2 else 1500) + 1
    return simulate_cells(seed, shape, count, preset=preset)[0]
