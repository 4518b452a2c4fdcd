"""CSRNet (Li et al., CVPR 2018) as a counter: a density at an eighth of the image's side.

Its sum is the count. Trained as in CountXplain (MIDL 2025), which explains this network: mean
squared error against Gaussians at the dots, summed over blocks of 8x8 pixels.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from cellcount_jax import losses
from cellcount_jax.data import targets
from cellcount_jax.methods.base import Batch, Readout, Stage, Tree, Variables, forward_in_training
from cellcount_jax.models import pretrained
from cellcount_jax.models.csrnet import FRONT_CONVS, STRIDE, CSRNet

NAME = "csrnet"
"""Of the stage, for methods that build on it."""

HALO = 144
"""Context in pixels that the network sees on each side of a position, rounded up to its stride: 2
of the first two convolutions, 4, 12 and 24 of those behind a pool, 96 of the dilated ones."""


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

    def init(key: jax.Array, batch: Batch, previous: Mapping[str, Variables]) -> Variables:
        del previous
        image, count = batch["labelled"]["image"], batch["labelled"]["count"]
        variables = net.init(key, image[:1])
        params, batch_stats = variables["params"], variables.get("batch_stats", {})
        if model.pretrained:
            weights = pretrained.load_vgg(
                model.pretrained,
                depth=16,
                batch_norm=model.batch_norm,
                width=model.width,
                n_convs=FRONT_CONVS,
            )
            params = {**params, "frontend": weights["params"]}
            if model.batch_norm:
                batch_stats = {**batch_stats, "frontend": weights["batch_stats"]}
        if model.start_at_mean:
            positions = (image.shape[1] // STRIDE) * (image.shape[2] // STRIDE)
            bias = jnp.full_like(params["head"]["bias"], scale * count.mean() / positions)
            params = {**params, "head": {**params["head"], "bias": bias}}
        return Variables(params, {}, {"batch_stats": batch_stats}, {})

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
        maps, model_state = forward_in_training(
            net, trained, model_state, rows["image"], rows["mask"]
        )
        density = maps["density"] / scale
        target = pool(rows["target"])
        value = losses.density_mse(density, target, scale=scale, mask=rows["mask"])
        return value, (model_state, {"loss": value})

    def predict(variables: Variables, images: jax.Array) -> dict[str, jax.Array]:
        maps: Any = net.apply({"params": variables.trained, **variables.model_state}, images)
        return {"density": maps["density"] / scale}

    return Stage(
        name=NAME,
        init=init,
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
      sigma: of the Gaussians, in pixels.
      adaptive: sigma from the distance to a dot's neighbours instead (MCNN, CVPR 2016).

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


def pool(maps: Any) -> Any:
    """Sums over blocks of STRIDE x STRIDE: maps [N, H, W] -> [N, h, w], NumPy or JAX.

    H and W are multiples of the stride; the loop brings images to such sides.
    """
    n, height, width = maps.shape
    blocks = maps.reshape(n, height // STRIDE, STRIDE, width // STRIDE, STRIDE)
    return blocks.sum(axis=(2, 4), dtype=maps.dtype)
