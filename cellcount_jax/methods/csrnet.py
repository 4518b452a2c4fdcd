"""CSRNet (Li et al., CVPR 2018) as a counter: a density at an eighth of the image's side.

Its sum is the count. Trained as in CountXplain (MIDL 2025), which explains this network: mean
squared error against Gaussians at the dots, summed over blocks of 8x8 pixels.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from cellcount_jax import losses
from cellcount_jax.data import targets
from cellcount_jax.methods.base import (
    LossResult,
    Readout,
    Stage,
    StepInput,
    Tree,
    Variables,
    forward_in_training,
)
from cellcount_jax.methods.vgg_init import init_from_vgg
from cellcount_jax.models.csrnet import FRONT_CONVS, STRIDE, CSRNet

NAME = "csrnet"
"""Name of the stage, for methods that build on it."""

BLOCKS = (1, STRIDE, STRIDE)
"""Blocks over which maps [N, H, W] are summed to the network's resolution."""

HALO = 144
"""Context in pixels that the network sees on each side of a position, rounded up to its stride: 2
of the first two convolutions, 4, 12 and 24 of those after a pool, 96 of the dilated ones."""


def stages(config: ConfigDict) -> tuple[Stage, ...]:
    """One stage, `csrnet`."""
    return (stage(config),)


def network(config: ConfigDict) -> CSRNet:
    """The network that `config.model` describes."""
    options = {key: config.model[key] for key in ("width", "batch_norm", "kernel_init")}
    return CSRNet(**options, dtype=jnp.dtype(config.dtype))


def stage(config: ConfigDict) -> Stage:
    """CSRNet as a stage, from scratch or from imported weights of VGG-16."""
    model, net = config.model, network(config)
    scale = float(model.target_scale)

    def loss(trained: Tree, inputs: StepInput) -> LossResult:
        rows = inputs.batch["labelled"]
        maps, model_state = forward_in_training(
            net, trained, inputs.model_state, rows["image"], rows["mask"]
        )
        target = targets.sum_pool(rows["target"], BLOCKS)
        density = maps["density"] / scale
        value = losses.density_mse(density, target, scale=scale, mask=rows["mask"])
        return value, (model_state, {"loss": value})

    def predict(variables: Variables, images: jax.Array) -> dict[str, jax.Array]:
        maps: Any = net.apply({"params": variables.trained, **variables.model_state}, images)
        return {"density": maps["density"] / scale}

    return Stage(
        name=NAME,
        init=init_from_vgg(
            net.init,  # compiled, it would round differently from the measured results
            model,
            vgg="frontend",
            depth=16,
            n_convs=FRONT_CONVS,
            stride=STRIDE,
            scale=scale,
        ),
        loss=loss,
        predict=predict,
        readout=Readout(count_map="density"),
        stride=STRIDE,
        halo=HALO,
        target=target_map(float(model.sigma), adaptive=model.adaptive_sigma),
    )


def target_map(
    sigma: float, *, adaptive: bool = False
) -> Callable[[np.ndarray, Sequence[int]], np.ndarray]:
    """The function from dots and space shape to a density at the image's own resolution.

    Args:
      sigma: Sigma of the Gaussians, in pixels.
      adaptive: Sigma from the distance to a dot's neighbours instead (MCNN, CVPR 2016).

    Returns:
      The function; it raises ValueError for an image smaller than the network's stride.
    """

    def target(dots: np.ndarray, shape: Sequence[int]) -> np.ndarray:
        if min(shape) < STRIDE:
            sides = " x ".join(map(str, shape))
            raise ValueError(
                f"an image of {sides} pixels is smaller than CSRNet's stride of {STRIDE}; "
                "leave it out or enlarge it (config.data.patches.resize)"
            )
        spread = targets.adaptive_sigma(dots, shape=shape) if adaptive else sigma
        return targets.gaussian_density(dots, shape, sigma=spread)

    return target
