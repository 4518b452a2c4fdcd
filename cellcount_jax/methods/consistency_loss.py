"""The loss of focal consistency: labelled crops, and a student that agrees with its teacher.

The teacher is the network as it is, or the moving average of its weights; the student sees the same
unlabelled crops with noise on its features and, if asked for, other intensities.
"""

import functools
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from cellcount_jax import losses
from cellcount_jax.data.augment import IntensityJitter, random_intensity
from cellcount_jax.methods import postprocess
from cellcount_jax.methods.base import LossResult, StepInput, Tree
from cellcount_jax.models.sau_net import SAUNet, inject_noise

CHOICES = {
    "scale": ("absolute", "relative"),
    "teacher": ("student", "average"),
    "statistics": ("labelled", "stream"),
}
"""Options of `config.consistency` with a fixed set of values."""

SIZE_DECAY = 0.9
"""Decay per step of the running sizes of the two terms."""

LARGEST_RATIO = 1e3
"""Largest ratio of the running sizes: bounds the weight if student and teacher agree everywhere."""

Rows = Mapping[str, jax.Array]


def check_options(config: ConfigDict) -> None:
    """Raises ValueError if an option of `config.consistency` is unknown or cannot be satisfied."""
    for name, known in CHOICES.items():
        if (given := config.consistency[name]) not in known:
            raise ValueError(f"config.consistency.{name}: {given!r} is not one of {known}")
    if config.consistency.teacher == "average" and not config.stages.consistency.ema_decay:
        raise ValueError(
            "config.consistency.teacher is 'average', the moving average of the weights: set "
            "config.stages.consistency.ema_decay above 0"
        )


def initial_sizes() -> dict[str, jax.Array]:
    """Running sizes of the terms before the first step."""
    return {"supervised": jnp.zeros(()), "consistency": jnp.zeros(())}


def standardised(images: jax.Array, *, least: jax.Array | float = 0.0) -> jax.Array:
    """Each crop or window [B, *space, C] with mean 0 and standard deviation 1 per channel.

    Args:
      images: Crops or windows.
      least: Standard deviation [C] below which a channel is not stretched any further.
    """
    space = tuple(range(1, images.ndim - 1))
    least = jnp.maximum(jnp.asarray(least, jnp.float32), 1e-6).reshape((1,) * len(space) + (1, -1))
    spread = jnp.maximum(images.std(axis=space, keepdims=True), least)
    return (images - images.mean(axis=space, keepdims=True)) / spread


def make_loss(network: SAUNet, config: ConfigDict) -> Callable[[Tree, StepInput], LossResult]:
    """Mean squared error of labelled crops plus, ramped up, the focal consistency of the others."""
    options, scale = config.consistency, float(config.model.target_scale)

    def loss(trained: Tree, inputs: StepInput) -> LossResult:
        if config.model.standardise:
            batch = {n: {**b, "image": standardised(b["image"])} for n, b in inputs.batch.items()}
            inputs = inputs._replace(batch=batch)
        rows = inputs.batch["labelled"]
        outputs, model_state = _student(network, trained, inputs, options)
        target = scale * rows["target"]
        supervised = losses.density_mse(outputs["labelled"], target, mask=rows["mask"])
        metrics = {"supervised": supervised}
        value = supervised
        if "unlabelled" in inputs.batch:
            others = inputs.batch["unlabelled"]
            agreement = losses.focal_consistency(
                outputs["unlabelled"],
                jax.lax.stop_gradient(_teacher(network, trained, inputs, options)),
                normalise=options.normalise,
                peak_threshold=options.peak_threshold,
                mask=others["mask"],
            )
            weight = options.weight * losses.consistency_ramp(
                inputs.step, ramp_steps=options.ramp_steps, shape=options.ramp_shape
            )
            if options.scale == "relative":
                sizes = _sizes(inputs, supervised, agreement)
                model_state = {**model_state, "term_sizes": sizes}
                smallest = sizes["supervised"] / LARGEST_RATIO
                weight *= sizes["supervised"] / jnp.maximum(sizes["consistency"], smallest + 1e-12)
            metrics |= {"consistency": agreement, "consistency_weight": weight}
            value = supervised + weight * agreement
        return value, (model_state, {**metrics, "loss": value})

    return loss


def _sizes(inputs: StepInput, supervised: jax.Array, agreement: jax.Array) -> dict[str, jax.Array]:
    """Running means of the terms, without a gradient; the first step sets them."""
    now = jax.lax.stop_gradient({"supervised": supervised, "consistency": agreement})
    rate = jnp.where(inputs.step == 0, 0.0, SIZE_DECAY)
    old = inputs.model_state["term_sizes"]
    return jax.tree.map(lambda old, new: rate * old + (1 - rate) * new, old, now)


def _teacher(network: SAUNet, trained: Tree, inputs: StepInput, options: ConfigDict) -> jax.Array:
    """Map of the unlabelled crops without noise, dropout or a change of intensities."""
    rows, model_state = inputs.batch["unlabelled"], inputs.model_state
    if options.teacher == "average" and inputs.average is not None:
        trained, model_state = inputs.average
    given = {"params": trained, **model_state}
    by_stream = options.statistics == "stream"
    calm = network.clone(dropout=0.0)

    def predict(images: jax.Array) -> jax.Array:
        if not by_stream:
            return jnp.asarray(network.apply(given, images))
        output, _ = calm.apply(
            given, images, train=True, mask=rows["mask"], mutable=["batch_stats"]
        )
        return jnp.asarray(output)

    if options.teacher_views:
        return postprocess.with_test_time_augmentation(predict, rows["image"])
    return predict(rows["image"])


def _student(
    network: SAUNet, trained: Tree, inputs: StepInput, options: ConfigDict
) -> tuple[dict[str, jax.Array], Tree]:
    """Maps of the crops of each stream, and the model state after them.

    Batch statistics that are kept are those of the labelled crops: noise in them would reach every
    crop. Unlabelled crops are normalised by them too, or by their own.
    """
    given = {"params": trained, **inputs.model_state}
    dropout_key, noise_key = jax.random.split(inputs.key)
    add_noise = functools.partial(
        inject_noise, noise_key, levels=options.noise_levels, amplitude=options.noise_amplitude
    )
    streams = {n: inputs.batch[n] for n in ("labelled", "unlabelled") if n in inputs.batch}
    if "unlabelled" in streams:
        changed = _view(jax.random.fold_in(inputs.key, 1), streams["unlabelled"], options)
        streams["unlabelled"] = {**streams["unlabelled"], "image": changed}

    def apply(parts: list[Rows], disturbed: jax.Array) -> tuple[jax.Array, Tree]:
        images = jnp.concatenate([rows["image"] for rows in parts])
        n = len(parts[0]["mask"])
        output, updates = network.apply(
            given,
            images,
            train=True,
            mask=jnp.zeros(len(images)).at[:n].set(parts[0]["mask"]),
            noise=functools.partial(add_noise, rows=disturbed),
            rngs={"dropout": dropout_key},
            mutable=["batch_stats"],
        )
        return jnp.asarray(output), {**inputs.model_state, **updates}

    sizes = {name: len(rows["mask"]) for name, rows in streams.items()}
    if options.statistics == "stream" or len(streams) == 1:
        found = {
            name: apply([rows], jnp.full(sizes[name], name == "unlabelled"))
            for name, rows in streams.items()
        }
        return {n: output for n, (output, _) in found.items()}, found["labelled"][1]
    n = sizes["labelled"]
    output, state = apply(list(streams.values()), jnp.arange(sum(sizes.values())) >= n)
    return {"labelled": output[:n], "unlabelled": output[n:]}, state


def _view(key: jax.Array, rows: Rows, options: ConfigDict) -> jax.Array:
    """The unlabelled crops as only the student sees them."""
    image = rows["image"]
    jitter = IntensityJitter(**options.view.to_dict())
    return random_intensity(key, image, ndim=image.ndim - 2, jitter=jitter)
