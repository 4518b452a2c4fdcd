"""DCL: decoupled counting and localisation (Zheng et al., MICCAI 2024).

Stage `counter`: VGG features, bilinear x2, global message passing, a 1x1 convolution to z; the
count is sum |z| and the only label is the number of cells. Stage `localizer`: with the counter
frozen, a UNet turns the image and the counter's coarse map |z| into a density whose peaks are the
cells.
"""

import functools
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
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
from cellcount_jax.methods.vgg_init import init_from_vgg
from cellcount_jax.models import layers
from cellcount_jax.models.message_passing import GlobalMessagePassing
from cellcount_jax.models.unet import UNet
from cellcount_jax.models.vgg import VGG

STRIDE = 8
"""Pixels per position of the coarse map: VGG-19 without its last pool (16), upsampled by two."""

INPUT_STRIDE = 16
WINDOW = 256


class DCLCounter(nn.Module):
    """VGG backbone, global message passing and the 1x1 head (section 2 of the paper).

    Attributes:
      depth: 16 or 19 layers of VGG.
      width: multiplier of the backbone's channels.
      batch_norm: the VGG variant with batch norm.
      message_passing: off for the paper's ablation.
      n_samples: sampled positions per position of the map.
      dtype: dtype of the backbone; parameters and z stay float32.
    """

    depth: int = 19
    width: float = 1.0
    batch_norm: bool = False
    message_passing: bool = True
    n_samples: int = 9
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False, mask: jax.Array | None = None):
        """z [B, H/8, W/8] float32, signed, of normalised images [B, H, W, 3]."""
        features = VGG(
            depth=self.depth,
            width=self.width,
            batch_norm=self.batch_norm,
            dtype=self.dtype,
            name="backbone",
        )(x, train=train, mask=mask)
        features = layers.upsample_bilinear(features, 2)
        if self.message_passing:
            passing = GlobalMessagePassing(n_samples=self.n_samples, name="message_passing")
            features = passing(features)
        head = nn.Conv(1, (1, 1), kernel_init=nn.initializers.normal(0.01), name="head")
        return head(features.astype(jnp.float32))[..., 0]


def stages(config: ConfigDict) -> tuple[Stage, ...]:
    """The counter and, unless `config.localizer.enabled` is off, the localizer."""
    counter = _counter_stage(config.model, config.dtype)
    if not config.localizer.enabled:
        return (counter,)
    return counter, _localizer_stage(config.localizer, counter, config.dtype)


def _counter_stage(model: ConfigDict, dtype: str) -> Stage:
    fields = ("depth", "width", "batch_norm", "message_passing", "n_samples")
    network = DCLCounter(**{name: model[name] for name in fields}, dtype=jnp.dtype(dtype))

    def loss(trained: Tree, inputs: StepInput) -> LossResult:
        rows = inputs.batch["labelled"]
        z, model_state = forward_in_training(
            network, trained, inputs.model_state, rows["image"], rows["mask"]
        )
        value = mean_over_images(losses.count_l1(z, rows["count"]), rows["mask"])
        return value, (model_state, {"loss": value})

    def predict(variables: Variables, images: jax.Array) -> dict[str, jax.Array]:
        z: Any = network.apply({"params": variables.trained, **variables.model_state}, images)
        return {"coarse": jnp.abs(z)}

    return Stage(
        name="counter",
        init=init_from_vgg(
            jax.jit(network.init), model, vgg="backbone", depth=model.depth, stride=STRIDE
        ),
        loss=loss,
        predict=predict,
        readout=Readout(count_map="coarse", count="l1"),
        stride=INPUT_STRIDE,
        window=WINDOW,
    )


def _localizer_stage(options: ConfigDict, counter: Stage, dtype: str) -> Stage:
    network = UNet(channels=tuple(options.channels), dtype=jnp.dtype(dtype))
    scale = float(options.target_scale)
    see = functools.partial(_localizer_input, counter, scale)
    target = functools.partial(targets.gaussian_density, sigma=float(options.sigma))

    def init(key: jax.Array, batch: Batch, previous: Mapping[str, Variables]) -> Variables:
        image = batch["labelled"]["image"][:1]
        frozen = previous[counter.name]._asdict()
        variables = jax.jit(network.init)(key, jnp.concatenate([image, image[..., :1]], axis=-1))
        state = {"batch_stats": variables["batch_stats"]}
        return Variables(variables["params"], frozen, state, {})

    def loss(trained: Tree, inputs: StepInput) -> LossResult:
        rows = inputs.batch["labelled"]
        x, _ = see(inputs.frozen, rows["image"])
        density, model_state = forward_in_training(
            network, trained, inputs.model_state, x, rows["mask"]
        )
        # Without the ReLU of `predict`: behind it, negative outputs would have no gradient.
        value = losses.density_mse(density, scale * rows["target"], mask=rows["mask"])
        return value, (model_state, {"loss": value})

    def predict(variables: Variables, images: jax.Array) -> dict[str, jax.Array]:
        x, coarse = see(variables.frozen, images)
        output: Any = network.apply({"params": variables.trained, **variables.model_state}, x)
        return {"coarse": coarse, "density": nn.relu(output) / scale}

    return Stage(
        name="localizer",
        init=init,
        loss=loss,
        predict=predict,
        readout=Readout(
            count_map="coarse",
            count="l1",
            points_map="density",
            decoder="peaks",
            threshold=0.3,
            single_cell_peak=single_cell_peak(target, (41, 41)),
            candidates=tuple(("peaks", t) for t in options.thresholds),
        ),
        stride=INPUT_STRIDE,
        select="f1",
        window=WINDOW,
        target=target,
    )


def _localizer_input(
    counter: Stage, scale: float, frozen: Tree, images: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The UNet's input [B, H, W, C + 1] and the counter's coarse map that it holds."""
    coarse = counter.predict(Variables(**frozen), images)["coarse"]
    coarse = jax.lax.stop_gradient(coarse)
    # Upsampling spreads a cell over STRIDE**2 pixels; dividing by that keeps the sum.
    spread = layers.upsample_bilinear(coarse[..., None], STRIDE) / STRIDE**2
    # Scaled as the target is, so that the extra channel is of the order of one.
    return jnp.concatenate([images, spread * scale], axis=-1), coarse
