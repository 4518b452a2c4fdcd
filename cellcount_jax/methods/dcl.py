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
from cellcount_jax.methods.base import (
    Batch,
    Readout,
    Stage,
    Tree,
    Variables,
    forward_in_training,
    masked_mean,
)
from cellcount_jax.models import layers, pretrained
from cellcount_jax.models.message_passing import GlobalMessagePassing
from cellcount_jax.models.unet import UNet
from cellcount_jax.models.vgg import VGG

STRIDE = 8
"""Pixels per cell of the coarse map: VGG-19 without its last pool (16), upsampled by two."""

INPUT_STRIDE = 16
WINDOW = 256


class Counter(nn.Module):
    """VGG backbone, global message passing and the 1x1 head (section 2 of the paper).

    Attributes:
      depth: 16 or 19 layers of VGG.
      width: multiplier of the backbone's channels.
      batch_norm: the VGG variant with batch norm.
      message_passing: off for the paper's ablation.
      n_samples: sampled positions per position of the map.
      combine: how the mean of the samples meets the features: add, replace or concat.
      padding: border or zeros, for samples beyond the map.
      align_corners: of the bilinear upsampling.
      head_bias: initial bias of the head, cells per position of the coarse map.
      dtype: dtype of the backbone; parameters and z stay float32.
    """

    depth: int = 19
    width: float = 1.0
    batch_norm: bool = False
    message_passing: bool = True
    n_samples: int = 9
    combine: str = "add"
    padding: str = "border"
    align_corners: bool = False
    head_bias: float = 0.0
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False, mask: jax.Array | None = None):
        """z [B, H/8, W/8] float32, signed, of normalised images [B, H, W, 3]."""
        backbone = VGG(
            depth=self.depth,
            width=self.width,
            batch_norm=self.batch_norm,
            dtype=self.dtype,
            name="backbone",
        )
        features: Any = backbone(x, train=train, mask=mask)
        features = layers.upsample_bilinear(features, 2, align_corners=self.align_corners)
        if self.message_passing:
            features = GlobalMessagePassing(
                n_samples=self.n_samples,
                combine=self.combine,
                padding=self.padding,
                name="message_passing",
            )(features)
        head = nn.Conv(
            1,
            (1, 1),
            kernel_init=nn.initializers.normal(0.01),
            bias_init=nn.initializers.constant(self.head_bias),
            name="head",
        )
        return head(features.astype(jnp.float32))[..., 0]


def stages(config: ConfigDict) -> tuple[Stage, ...]:
    """The counter and, unless `config.localizer.enabled` is off, the localizer."""
    counter = _counter_stage(config.model, config.dtype)
    if not config.localizer.enabled:
        return (counter,)
    return counter, _localizer_stage(config.localizer, counter, config.dtype)


def _counter_stage(model: ConfigDict, dtype: str) -> Stage:
    options = {key: model[key] for key in model if key not in ("pretrained", "start_at_mean")}
    network = Counter(**options, dtype=jnp.dtype(dtype))

    def init(key: jax.Array, batch: Batch, previous: Mapping[str, Variables]) -> Variables:
        del previous
        image, count = batch["labelled"]["image"], batch["labelled"]["count"]
        variables = jax.jit(network.init)(key, image[:1])
        params, batch_stats = variables["params"], variables.get("batch_stats", {})
        if model.pretrained:
            weights = pretrained.load_vgg(
                model.pretrained, depth=model.depth, batch_norm=model.batch_norm, width=model.width
            )
            params = {**params, "backbone": weights["params"]}
            if model.batch_norm:
                batch_stats = {**batch_stats, "backbone": weights["batch_stats"]}
        if model.start_at_mean:
            # From scratch, most of the first epochs would go into finding the mean count.
            positions = (image.shape[1] // STRIDE) * (image.shape[2] // STRIDE)
            bias = jnp.full_like(params["head"]["bias"], count.mean() / positions)
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
        z, model_state = forward_in_training(
            network, trained, model_state, rows["image"], rows["mask"]
        )
        value = masked_mean(losses.count_l1(z, rows["count"]), rows["mask"])
        return value, (model_state, {"loss": value})

    def predict(variables: Variables, images: jax.Array) -> dict[str, jax.Array]:
        z: Any = network.apply({"params": variables.trained, **variables.model_state}, images)
        return {"coarse": jnp.abs(z)}

    return Stage(
        name="counter",
        init=init,
        loss=loss,
        predict=predict,
        readout=Readout(count_map="coarse", count="l1"),
        stride=INPUT_STRIDE,
        window=WINDOW,
    )


def _localizer_stage(options: ConfigDict, counter: Stage, dtype: str) -> Stage:
    network = UNet(channels=tuple(options.channels), head_bias=0.0, dtype=jnp.dtype(dtype))
    scale = float(options.target_scale)

    def inputs(frozen: Tree, images: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The UNet's input [B, H, W, C + 1] and the coarse map that it holds."""
        coarse = counter.predict(Variables(**frozen), images)["coarse"]
        coarse = jax.lax.stop_gradient(coarse)
        # Upsampling spreads a cell over STRIDE**2 pixels; dividing by that keeps the sum.
        spread = layers.upsample_bilinear(coarse[..., None], STRIDE) / STRIDE**2
        # As the target, so that the extra channel is of the order of one.
        return jnp.concatenate([images, spread * scale], axis=-1), coarse

    def init(key: jax.Array, batch: Batch, previous: Mapping[str, Variables]) -> Variables:
        image = batch["labelled"]["image"][:1]
        frozen = previous[counter.name]._asdict()
        variables = jax.jit(network.init)(key, jnp.concatenate([image, image[..., :1]], axis=-1))
        state = {"batch_stats": variables["batch_stats"]}
        return Variables(variables["params"], frozen, state, {})

    def loss(
        trained: Tree,
        frozen: Tree,
        model_state: Tree,
        batch: Batch,
        key: jax.Array,
        step: jax.Array,
    ) -> tuple[jax.Array, tuple[Tree, dict[str, jax.Array]]]:
        del key, step
        rows = batch["labelled"]
        x, _ = inputs(frozen, rows["image"])
        output, model_state = forward_in_training(network, trained, model_state, x, rows["mask"])
        # Without the ReLU of `predict`: behind it, negative outputs would have no gradient.
        error = (output[..., 0] - scale * rows["target"]) ** 2
        value = masked_mean(error.mean(axis=(1, 2)), rows["mask"])
        return value, (model_state, {"loss": value})

    def predict(variables: Variables, images: jax.Array) -> dict[str, jax.Array]:
        x, coarse = inputs(variables.frozen, images)
        output: Any = network.apply({"params": variables.trained, **variables.model_state}, x)
        return {"coarse": coarse, "density": nn.relu(output[..., 0]) / scale}

    # A lone dot's peak in the target, in cells per pixel: the decoder's threshold is a share of it.
    sigma = float(options.sigma)
    lone = targets.gaussian_density([[20.0, 20.0]], (41, 41), sigma=sigma).max()
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
            reference=float(lone),
            candidates=tuple(("peaks", t) for t in options.thresholds),
        ),
        stride=INPUT_STRIDE,
        select="f1",
        window=WINDOW,
        target=functools.partial(targets.gaussian_density, sigma=sigma),
    )
