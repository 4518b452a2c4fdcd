"""The default counter: a compact UNet that predicts a density map.

The map's integral is the count, its peaks are the points. Nothing in it depends on the whole
image at inference, so that images of any size can be cut into tiles.
"""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from cellcount_jax.data import targets
from cellcount_jax.methods.base import (
    Batch,
    Readout,
    Stage,
    Tree,
    Variables,
    forward_in_training,
    masked_mean,
)
from cellcount_jax.models import unet

NARROW, WIDE_WINDOW = 8, 2048
"""Up to so many channels at the finest level windows are that long: less is computed twice, and the
intermediate results still take no more than about a gigabyte."""


def stages(config: ConfigDict) -> tuple[Stage, ...]:
    """One stage, `density`."""
    model = config.model
    network = unet.UNet(channels=tuple(model.channels), dtype=jnp.dtype(config.dtype))
    scale, sigma = float(model.target_scale), float(model.sigma)
    # Cells that lie well apart are counted by their peaks: a sum feels every pixel of the ground.
    count = model.get("count", "integral")

    def init(key: jax.Array, batch: Batch, previous: Mapping[str, Variables]) -> Variables:
        del previous
        variables = jax.jit(network.init)(key, batch["labelled"]["image"][:1])
        return Variables(variables["params"], {}, {"batch_stats": variables["batch_stats"]}, {})

    def loss(
        trained: Tree,
        frozen: Tree,
        model_state: Tree,
        batch: Batch,
        key: jax.Array,
        step: jax.Array,
    ) -> tuple[jax.Array, tuple[Tree, dict[str, jax.Array]]]:
        del frozen, key, step
        rows = batch["labelled"]
        output, model_state = forward_in_training(
            network, trained, model_state, rows["image"], rows["mask"]
        )
        # Linear in training, so that negative outputs keep a gradient and noise stays unbiased.
        density, target = output[..., 0], scale * rows["target"]
        pixels = ((density - target) ** 2).mean(axis=(1, 2))
        value = masked_mean(pixels, rows["mask"])
        return value, (model_state, {"loss": value})

    def predict(variables: Variables, images: jax.Array) -> dict[str, jax.Array]:
        output: Any = network.apply({"params": variables.trained, **variables.model_state}, images)
        return {"density": output[..., 0] / scale}

    lone = targets.gaussian_density([[20.0, 20.0]], (41, 41), sigma=sigma).max()
    return (
        Stage(
            name="density",
            init=init,
            loss=loss,
            predict=predict,
            readout=Readout(
                count_map="density",
                count=count,
                points_map="density",
                decoder="peaks",
                threshold=0.3,
                reference=float(lone),
                candidates=tuple(("peaks", t) for t in model.thresholds),
                # The mean squared error of a map hardly feels a bias spread over all its pixels.
                calibrate=count == "integral",
            ),
            stride=2 ** (len(model.channels) - 1),
            halo=unet.halo(len(model.channels)),
            largest=WIDE_WINDOW if model.channels[0] <= NARROW else None,
            target=functools.partial(targets.gaussian_density, sigma=sigma),
        ),
    )
