"""DCL: decoupled counting and localisation (Zheng et al., MICCAI 2024).

Stage `counter`: VGG features, bilinear x2, global message passing, a 1x1 convolution to z; the
count is sum |z| and the only label is the number of cells. Stage `localizer`: with the counter
frozen, a UNet turns the image and the counter's coarse map |z| into a density whose peaks are the
cells. Stage `pretrain`, not part of the paper and off unless a config enables it, replaces
ImageNet weights: the counter's network learns the density of the training dots first.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from cellcount_jax import losses
from cellcount_jax.data import targets
from cellcount_jax.losses.masked import mean_over_images
from cellcount_jax.methods import postprocess
from cellcount_jax.methods.base import (
    Batch,
    LossResult,
    MakeTarget,
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

See = Callable[[Tree, jax.Array], tuple[jax.Array, jax.Array]]
"""From the counter's variables and images to the localizer's input and the coarse map."""

PRETRAIN = "pretrain"

STRIDE = 8
"""Pixels per position of the coarse map: VGG-19 without its last pool (16), upsampled by two."""

INPUT_STRIDE = 16

CHUNK_ROWS = 8
"""Images per batch when the coarse maps of all training images are computed."""

SHARPENED = "sharpened"
"""Name of the map that peaks are read from if `config.localizer.unsharp_sigma` is set."""


class DCLCounter(nn.Module):
    """VGG backbone, global message passing and the 1x1 head (section 2 of the paper).

    Attributes:
      depth: 16 or 19 layers of VGG.
      width: Multiplier of the backbone's channels.
      batch_norm: The VGG variant with batch norm.
      message_passing: Off for the paper's ablation.
      n_samples: Sampled positions per position of the map.
      dtype: Dtype of the backbone; parameters and z stay float32.
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
    """The counter, before it the pretraining and after it the localizer if they are enabled."""
    counter = _counter_stage(config)
    found = [counter]
    if config.pretrain.enabled:
        found.insert(0, _pretrain_stage(config, counter))
    if config.localizer.enabled:
        found.append(_localizer_stage(config.localizer, counter, config.dtype))
    return tuple(found)


def _counter_stage(config: ConfigDict) -> Stage:
    model = config.model
    network = _network(config)
    init_from_scratch = init_from_vgg(
        jax.jit(network.init), model, vgg="backbone", depth=model.depth, stride=STRIDE
    )

    def init(key: jax.Array, batch: Batch, previous: Mapping[str, Variables]) -> Variables:
        return previous.get(PRETRAIN) or init_from_scratch(key, batch, previous)

    def loss(trained: Tree, inputs: StepInput) -> LossResult:
        rows = inputs.batch["labelled"]
        z, model_state, metrics = _forward(network, trained, inputs)
        value = mean_over_images(losses.count_l1(z, rows["count"]), rows["mask"])
        return value, (model_state, {"loss": value, **metrics})

    def predict(variables: Variables, images: jax.Array) -> dict[str, jax.Array]:
        z: Any = network.apply({"params": variables.trained, **variables.model_state}, images)
        return {"coarse": jnp.abs(z)}

    return Stage(
        name="counter",
        init=init,
        loss=loss,
        predict=predict,
        readout=Readout(count_map="coarse", count="l1", calibrate=model.calibrate),
        stride=INPUT_STRIDE,
    )


def _pretrain_stage(config: ConfigDict, counter: Stage) -> Stage:
    """The counter's network on the density of dots, summed over its positions."""
    network = _network(config)
    target = functools.partial(targets.gaussian_density, sigma=float(config.pretrain.sigma))

    def init(key: jax.Array, batch: Batch, previous: Mapping[str, Variables]) -> Variables:
        return counter.init(key, batch, previous)

    def loss(trained: Tree, inputs: StepInput) -> LossResult:
        rows = inputs.batch["labelled"]
        z, model_state, metrics = _forward(network, trained, inputs)
        density = targets.sum_pool(rows["target"], (1, STRIDE, STRIDE))
        scale = float(config.pretrain.target_scale)
        value = losses.density_mse(jnp.abs(z), density, scale=scale, mask=rows["mask"])
        return value, (model_state, {"loss": value, **metrics})

    return dataclasses.replace(counter, name=PRETRAIN, init=init, loss=loss, target=target)


def _network(config: ConfigDict) -> DCLCounter:
    fields = ("depth", "width", "batch_norm", "message_passing", "n_samples")
    options = {name: config.model[name] for name in fields}
    return DCLCounter(**options, dtype=jnp.dtype(config.dtype))


def _forward(
    network: DCLCounter, trained: Tree, inputs: StepInput
) -> tuple[jax.Array, Tree, dict[str, jax.Array]]:
    """z in training, the model state after it, and the current reach of message passing."""
    rows = inputs.batch["labelled"]
    found: Any = network.apply(
        {"params": trained, **inputs.model_state},
        rows["image"],
        train=True,
        mask=rows["mask"],
        mutable=["batch_stats", "intermediates"],
    )
    z, updates = found
    sown = updates.get("intermediates", {}).get("message_passing", {})
    metrics = {name: mean_over_images(value, rows["mask"]) for name, value in sown.items()}
    model_state = {name: updates.get(name, value) for name, value in inputs.model_state.items()}
    return z, model_state, metrics


def _localizer_stage(options: ConfigDict, counter: Stage, dtype: str) -> Stage:
    network = UNet(channels=tuple(options.channels), dtype=jnp.dtype(dtype))
    scale = float(options.target_scale)
    see = functools.partial(_localizer_input, counter, scale if options.coarse else None)
    target = functools.partial(targets.gaussian_density, sigma=float(options.sigma))

    def init(key: jax.Array, batch: Batch, previous: Mapping[str, Variables]) -> Variables:
        frozen = previous[counter.name]._asdict()
        x = jax.eval_shape(lambda x: see(frozen, x)[0], batch["labelled"]["image"][:1])
        variables = jax.jit(network.init)(key, jnp.zeros(x.shape, x.dtype))
        state = {"batch_stats": variables["batch_stats"]}
        return Variables(variables["params"], frozen, state, {})

    def loss(trained: Tree, inputs: StepInput) -> LossResult:
        rows = inputs.batch["labelled"]  # Images with their coarse map, see `_with_coarse_maps`.
        density, model_state = forward_in_training(
            network, trained, inputs.model_state, rows["image"], rows["mask"]
        )
        # Without the ReLU of `predict`: negative outputs would have no gradient.
        value = losses.density_mse(density, scale * rows["target"], mask=rows["mask"])
        return value, (model_state, {"loss": value})

    return Stage(
        name="localizer",
        init=init,
        loss=loss,
        predict=functools.partial(_localizer_maps, network, see, options=options),
        readout=_localizer_readout(options, counter, target),
        stride=INPUT_STRIDE,
        select="f1",
        target=target,
        prepare=functools.partial(_with_coarse_maps, see),
    )


def _localizer_maps(
    network: UNet, see: See, variables: Variables, images: jax.Array, *, options: ConfigDict
) -> dict[str, jax.Array]:
    """Maps of images [B, H, W, C]: `coarse`, `density` and, if peaks are unsharp, `sharpened`."""
    x, coarse = see(variables.frozen, images)

    def apply(x: jax.Array) -> jax.Array:
        given = {"params": variables.trained, **variables.model_state}
        return nn.relu(jnp.asarray(network.apply(given, x))) / float(options.target_scale)

    augmented = postprocess.with_test_time_augmentation
    density = augmented(apply, x) if options.test_time_augmentation else apply(x)
    maps = {"coarse": coarse, "density": density}
    if options.unsharp_sigma:
        sigma = (options.unsharp_sigma,) * 2
        maps[SHARPENED] = postprocess.unsharp_peaks(density, sigma=sigma)
    return maps


def _with_coarse_maps(see: See, data: Tree, frozen: Tree) -> Tree:
    """Adds the coarse map of whole images, so that a crop gets what a test image would."""
    rows = data["labelled"]
    compute = jax.jit(lambda images: see(frozen, images)[0])
    starts = range(0, len(rows["image"]), CHUNK_ROWS)
    seen = [np.asarray(compute(rows["image"][i : i + CHUNK_ROWS])) for i in starts]
    return {**data, "labelled": {**rows, "image": np.concatenate(seen)}}


def _localizer_readout(options: ConfigDict, counter: Stage, target: MakeTarget) -> Readout:
    """The counter's count, and points of the localizer's map."""
    shown = target
    if options.unsharp_sigma:
        shown = postprocess.sharpened_target(target, sigma=(options.unsharp_sigma,) * 2)
    return dataclasses.replace(
        counter.readout,
        points_map=SHARPENED if options.unsharp_sigma else "density",
        decoder="peaks",
        threshold=0.3,
        single_cell_peak=single_cell_peak(shown, (41, 41)),
        candidates=tuple(("peaks", t) for t in options.thresholds),
    )


def _localizer_input(
    counter: Stage, scale: float | None, frozen: Tree, images: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The UNet's input [B, H, W, C + 1] and the counter's coarse map that it holds.

    Args:
      counter: Makes the map.
      scale: Scale of the map in the input; None: the UNet sees only the image, [B, H, W, C].
      frozen: Variables of the counter.
      images: Whole images.
    """
    coarse = counter.predict(Variables(**frozen), images)["coarse"]
    coarse = jax.lax.stop_gradient(coarse)
    if scale is None:
        return images, coarse
    # Upsampling spreads a cell over STRIDE**2 pixels; dividing by that keeps the sum.
    spread = layers.upsample_bilinear(coarse[..., None], STRIDE) / STRIDE**2
    # Scaled as the target is, so that the extra channel is of the order of one.
    return jnp.concatenate([images, spread * scale], axis=-1), coarse
