"""Small counters, trained for some tens of steps on simulated cells: seconds, and no raw data."""

import dataclasses
import functools
import importlib

import jax
import jax.numpy as jnp
import numpy as np
import optax

from cellcount_jax.data.batches import rasterize_counts
from cellcount_jax.data.preprocess import Preprocessing, preprocess
from cellcount_jax.inference.batched_predict import fixed_window
from cellcount_jax.inference.counter import Counter
from cellcount_jax.methods import build_stages
from cellcount_jax.methods.base import StepInput
from cellcount_jax.simulation.simulate import simulate_cells
from tests.inference.made_counters import CONFIGS

SIDE = {2: 64, 3: 16}
"""Of the training images, which is also that of the fixed windows."""

N = {2: 4, 3: 2}
"""Training images, all of them in every step."""


@functools.cache
def trained(method: str, steps: int = 100) -> Counter:
    """A counter of a method of `made_counters.CONFIGS`, its stages trained one after the other."""
    config = importlib.import_module(f"configs.{CONFIGS[method]}").get_config("tiny")
    if method == "density":
        config.model.channels = (6, 8, 12)
    if "width" in config.model:
        config.model.width = 1 / 16
    ndim = 3 if method.endswith("3d") else 2
    scaled = Preprocessing(channels=config.preprocessing.channels, normalise="percentile")
    stages, previous = build_stages(config), {}
    for stage in stages:
        batch = _batch(stage, ndim, scaled)
        variables = jax.jit(stage.init)(jax.random.key(0), batch, previous)
        previous[stage.name] = _fitted(stage, variables, batch, steps)
    stage = stages[-1]
    if fixed_window(stage, ndim) is not None:
        stage = dataclasses.replace(stage, window=SIDE[ndim])
    return Counter(stage, previous[stage.name], scaled)


def make_image(shape: tuple[int, ...], seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """An image [*shape, C] with its dots, as crowded as those of the training."""
    ndim = len(shape)
    crowd = int(np.prod(shape)) // (330 if ndim == 2 else 250)
    preset = "vgg" if ndim == 2 else "light_sheet"
    return simulate_cells(seed, shape, crowd, preset=preset)


def _batch(stage, ndim: int, scaled: Preprocessing) -> dict:
    made = [make_image((SIDE[ndim],) * ndim, seed) for seed in range(2, 2 + N[ndim])]
    shape = made[0][0].shape[:-1]
    rows = {
        "image": [preprocess(image, scaled) for image, _ in made],
        "count": [float(len(dots)) for _, dots in made],
        "dots": [rasterize_counts(dots, shape) for _, dots in made],
        "size": [shape for _ in made],
        "mask": [1.0 for _ in made],
        "index": list(range(len(made))),
    }
    if stage.target is not None:
        rows["target"] = [stage.target(dots, shape) for _, dots in made]
    return {"labelled": {name: jnp.asarray(np.stack(values)) for name, values in rows.items()}}


def _fitted(stage, variables, batch: dict, steps: int):
    """The variables after some steps of Adam, all in one compiled call."""
    data = batch
    if stage.prepare is not None:
        data = stage.prepare(jax.tree.map(np.asarray, batch), variables.frozen)
        data = jax.tree.map(jnp.asarray, data)
    tx = optax.adam(optax.cosine_decay_schedule(1e-2, steps))

    def step(carry, number):
        weights, state, moments = carry
        key = jax.random.fold_in(jax.random.key(1), number)
        inputs = StepInput(data, key, number, variables.frozen, state)
        gradients, (state, metrics) = jax.grad(stage.loss, has_aux=True)(weights, inputs)
        with jax.numpy_dtype_promotion("standard"):  # optax's schedules divide integers
            updates, moments = tx.update(gradients, moments, weights)
        return (optax.apply_updates(weights, updates), state, moments), metrics["loss"]

    first = (variables.trained, variables.model_state, tx.init(variables.trained))
    (weights, state, _), losses = jax.jit(lambda c: jax.lax.scan(step, c, jnp.arange(steps)))(first)
    assert losses[-1] < losses[0], stage.name
    found = variables._replace(trained=weights, model_state=state)
    if stage.finish is not None:
        found = stage.finish(found, jax.tree.map(np.asarray, data))
    return jax.tree.map(np.asarray, found)
