"""The default counter: a compact UNet that predicts a density map.

The map's integral is the count, its peaks are the points. Density far from anything that is as high
as a fraction (`gate`) of one cell's peak is background and counts nothing. Nothing depends on the
whole image at inference, so that images of any size can be cut into tiles.
"""

import functools
import math
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from cellcount_jax import losses
from cellcount_jax.data import targets
from cellcount_jax.losses.masked import mean_over_images
from cellcount_jax.methods.base import (
    Batch,
    LossResult,
    Readout,
    Stage,
    StepInput,
    Tree,
    Variables,
    forward_in_training,
    single_cell_peak,
)
from cellcount_jax.models import unet

NARROW_CHANNELS, WIDE_WINDOW = 8, {2: 2048, 3: 224}
"""With at most this many channels at the finest level, windows have this side, by number of space
axes: larger windows overlap less. The activations of one window take about two gigabytes at most,
and two windows may be in progress."""

NOT_CELL_WEIGHT, NOT_CELL_REACH = 10.0, 3.0
"""Loss weight around places that a person marked as no cell, and how far it reaches, in sigmas of
the kernel."""


def stages(config: ConfigDict) -> tuple[Stage, ...]:
    """One stage, `density`."""
    model = config.model
    network = unet.UNet(channels=tuple(model.channels), dtype=jnp.dtype(config.dtype))
    scale, stride = float(model.target_scale), 2 ** (len(model.channels) - 1)
    target = functools.partial(targets.gaussian_density, sigma=float(model.sigma))
    ndim, gate = int(model.ndim), float(model.gate)
    peak = single_cell_peak(target, (41,) * ndim)
    reach = math.ceil(3 * float(model.sigma)) if gate else 0

    def init(key: jax.Array, batch: Batch, previous: Mapping[str, Variables]) -> Variables:
        del previous
        variables = jax.jit(network.init)(key, batch["labelled"]["image"][:1])
        return Variables(variables["params"], {}, {"batch_stats": variables["batch_stats"]}, {})

    def predict(variables: Variables, images: jax.Array) -> dict[str, jax.Array]:
        given = {"params": variables.trained, **variables.model_state}
        density = jnp.asarray(network.apply(given, images)) / scale
        if gate:
            density = near_peaks(density, least=gate * peak, reach=reach)
        return {"density": density}

    return (
        Stage(
            name="density",
            init=init,
            loss=_loss(network, scale, float(model.count_weight)),
            predict=predict,
            readout=Readout(
                count_map="density",
                count=model.count,
                points_map="density",
                decoder="peaks",
                threshold=0.3,
                single_cell_peak=peak,
                candidates=tuple(("peaks", t) for t in model.thresholds),
                # The mean squared error is insensitive to a bias spread over all pixels of a map.
                calibrate=model.count == "integral",
            ),
            stride=stride,
            halo=unet.halo(len(model.channels)) + -(-reach // stride) * stride,
            max_window=WIDE_WINDOW[ndim] if model.channels[0] <= NARROW_CHANNELS else None,
            target=target,
            weight=functools.partial(
                targets.raised_weight,
                radius=NOT_CELL_REACH * float(model.sigma),
                weight=NOT_CELL_WEIGHT,
            ),
        ),
    )


def near_peaks(density: jax.Array, *, least: float, reach: int) -> jax.Array:
    """The density within `reach` pixels, along each axis, of a value of at least `least`; else 0.

    Args:
      density: Density [B, *space].
      least: Cells per pixel.
      reach: Distance in pixels.
    """
    near = (density >= least).astype(jnp.float32)
    for axis in range(1, density.ndim):
        window, padding = [1] * density.ndim, [(0, 0)] * density.ndim
        window[axis], padding[axis] = 2 * reach + 1, (reach, reach)
        near = jax.lax.reduce_window(
            near, 0.0, jax.lax.max, tuple(window), (1,) * near.ndim, padding
        )
    return density * near


def _loss(
    network: unet.UNet, scale: float, count_weight: float
) -> Callable[[Tree, StepInput], LossResult]:
    def loss(trained: Tree, inputs: StepInput) -> LossResult:
        rows = inputs.batch["labelled"]
        density, model_state = forward_in_training(
            network, trained, inputs.model_state, rows["image"], rows["mask"]
        )
        # Linear in training, so that negative outputs keep a gradient and noise stays unbiased.
        value = losses.density_mse(
            density, scale * rows["target"], mask=rows["mask"], weight=rows.get("weight")
        )
        if count_weight:
            # In units of the first term, which grows with the density of the cells.
            unit = jnp.square(scale * rows["target"]).mean()
            total = density.sum(axis=tuple(range(1, density.ndim))) / scale
            error = jnp.abs(total - rows["count"]) / jnp.sqrt(1 + rows["count"])
            value += count_weight * unit * mean_over_images(error, rows["mask"])
        return value, (model_state, {"loss": value})

    return loss
