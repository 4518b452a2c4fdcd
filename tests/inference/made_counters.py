"""Counters of every method with random weights, small and quick to build."""

import dataclasses
import functools
import importlib

import jax
import jax.numpy as jnp
import numpy as np

from cellcount_jax.data.preprocess import Preprocessing
from cellcount_jax.inference.batched_predict import fixed_window
from cellcount_jax.inference.counter import Counter
from cellcount_jax.methods import build_stages
from cellcount_jax.methods.base import Readout, Stage, Variables
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
    """A counter of a method whose maps are not flat, with points where the method has any."""
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
    if fixed_window(stage, ndim) is not None:
        stage = dataclasses.replace(stage, window=GLOBAL_WINDOW[ndim])
    # Heights in random maps have a meaning only relative to each other.
    readout = dataclasses.replace(stage.readout, single_cell_peak=None, threshold=0.3)
    stage = dataclasses.replace(stage, readout=readout)
    return Counter(stage, variables, Preprocessing(channels=channels, normalise="percentile"))


def _filled(shapes):
    """Weights that keep the scale of the signal, neutral batch statistics, positive biases."""
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


def bright_counter(ndim: int = 2) -> Counter:
    """Mean over 3 pixels per axis of the first channel: a network of reach 1, any dimension."""

    def predict(variables, images):
        values = images[..., 0]
        for axis in range(1, ndim + 1):
            after = jnp.roll(values, 1, axis).at[(slice(None),) * axis + (0,)].set(0)
            before = jnp.roll(values, -1, axis).at[(slice(None),) * axis + (-1,)].set(0)
            values = (values + after + before) / 3
        return {"density": values * variables.trained["scale"]}

    readout = Readout("density", points_map="density", threshold=0.2)
    stage = Stage("bright", None, None, predict, readout, stride=4, halo=4)
    variables = Variables({"scale": np.float32(0.5)}, {}, {}, {})
    return Counter(stage, variables, Preprocessing(channels=1, normalise="percentile"))


class ShortOfMemory:
    """A device on which batches of more than this many pixels do not fit."""

    def __init__(self, predict, pixels: int):
        self.predict, self.pixels = jax.jit(predict), pixels
        self.shapes = []

    def __call__(self, variables, images):
        if np.prod(images.shape) > self.pixels:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")
        self.shapes.append(images.shape)
        return self.predict(variables, images)
