"""Focal consistency: SAU-Net on inverse-distance maps, with unlabelled images (MOVI 2022).

The student sees labelled and unlabelled crops, the unlabelled ones with noise on their features;
the teacher is the same network without noise, dropout and gradient. Both look at the same crops.
Without unlabelled images, or with a consistency weight of 0, this is SAU-Net as it was (BIBM
2019), on inverse-distance or Gaussian targets.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from cellcount_jax.data import targets
from cellcount_jax.losses import consistency_ramp, focal_consistency
from cellcount_jax.methods import postprocess
from cellcount_jax.methods.base import Batch, Readout, Stage, Tree, Variables, masked_mean
from cellcount_jax.models.recalibrate_batch_norm import recalibrate_batch_norm
from cellcount_jax.models.sau_net import SAUNet, inject_noise

MAP = {"inverse_distance": "inverse_distance", "gaussian": "density"}
"""Name of the map that a network with each kind of target predicts."""

SHARPENED = "sharpened"
"""Name of the map that peaks are read from where it is asked for."""

HALO = 8
"""Windows overlap by one part in so many of their shortest side: the network sees a window whole,
so that no overlap is exact, but its maps are worst at the borders."""

DIMMEST = 0.25
"""Windows whose brightness spreads by less than this share of the flattest labelled image's are
not stretched further: in an image without cells there is only noise to stretch."""

EXTENSION_ROWS = 8
"""Images per batch when batch-norm statistics are taken anew."""


def stages(config: ConfigDict) -> tuple[Stage, ...]:
    """One stage, `consistency`.

    Raises:
      ValueError: an unknown kind of target, or unlabelled images asked for and none weighed.
    """
    model, window = config.model, tuple(config.model.window)
    if model.target not in MAP:
        raise ValueError(
            f"config.model.target: {model.target!r} is not one of {', '.join(sorted(MAP))}"
        )
    network = SAUNet(
        ndim=len(window),
        base_channels=model.base_channels,
        levels=model.levels,
        norm=model.norm,
        dropout=model.dropout,
        dtype=jnp.dtype(config.dtype),
    )
    scale = float(model.target_scale)
    blur = blur_of(model)

    def init(key: jax.Array, batch: Batch, previous: Mapping[str, Variables]) -> Variables:
        del previous
        variables = jax.jit(network.init)(key, _one_input(batch, network))
        return Variables(variables["params"], {}, _state(variables), {})

    def predict(variables: Variables, images: jax.Array) -> dict[str, jax.Array]:
        if model.standardise:
            images = standardised(images, least=variables.extras.get("least_spread", 0.0))

        def apply(images: jax.Array) -> jax.Array:
            given = {"params": variables.trained, **variables.model_state}
            return jnp.asarray(network.apply(given, images)) / scale

        found = postprocess.mean_over_views(apply, images) if model.get("views") else apply(images)
        maps = {MAP[model.target]: found}
        return maps | {SHARPENED: postprocess.sharpened(found, sigma=blur)} if blur else maps

    return (
        Stage(
            name="consistency",
            init=init,
            loss=_loss(network, config.consistency, scale, model.standardise),
            predict=predict,
            readout=_readout(model),
            stride=2 ** (model.levels - 1),
            window=window,
            target=_target(model),
            halo=min(window) // HALO,
            finish=_finish(network, model),
        ),
    )


def _one_input(batch: Batch, network: SAUNet) -> jax.Array:
    """A corner of the first image: the parameters do not depend on the size."""
    side = 2 ** (network.levels - 1)
    return jnp.asarray(batch["labelled"]["image"])[(slice(1), *[slice(side)] * network.ndim)]


def _state(variables: Mapping[str, Any]) -> Tree:
    return {"batch_stats": variables["batch_stats"]} if "batch_stats" in variables else {}


def _target(model: ConfigDict) -> Callable:
    if model.target == "gaussian":
        return functools.partial(targets.gaussian_density, sigma=tuple(model.sigma))
    spacing = None if model.spacing is None else tuple(model.spacing)
    return functools.partial(targets.inverse_distance_map, spacing=spacing, cutoff=model.cutoff)


def blur_of(model: ConfigDict) -> tuple[float, ...] | None:
    """Blur that a map is sharpened by, in voxels of each axis; None: it is not."""
    if not model.get("sharpen"):
        return None
    ndim = len(model.window)
    spacing = (1.0,) * ndim if model.spacing is None else tuple(model.spacing)
    return tuple(model.sharpen * spacing[-1] / size for size in spacing)


def _readout(model: ConfigDict) -> Readout:
    """Inverse distances count by their points; a density by its integral, and it has points."""
    points_map = SHARPENED if blur_of(model) else MAP[model.target]
    reference = _height_at_a_dot(model)
    # Components are cut at the same shares of a lone cell's peak as peaks are.
    candidates = tuple(
        (decoder, t * reference if decoder == "components" else t)
        for decoder in model.decoders
        for t in model.thresholds
    )
    return Readout(
        count_map=MAP[model.target],
        count="integral" if model.target == "gaussian" else "peaks",
        points_map=points_map,
        decoder="peaks",
        threshold=0.5,
        reference=reference,
        candidates=candidates,
        tolerance=model.get("tolerance", 0.0),
    )


def _height_at_a_dot(model: ConfigDict) -> float:
    """Of the map that points are read from, if it were the true one of a lone cell."""
    blur = blur_of(model)
    shape = tuple(2 * round(4 * s) + 1 for s in model.sigma)
    if blur:
        shape = (41,) * len(shape)
    centre = tuple(side // 2 for side in shape)
    true = jnp.asarray(_target(model)(np.array([centre], np.float32), shape))
    if blur:
        true = postprocess.sharpened(true[None], sigma=blur)[0]
    return float(true[centre])


def standardised(images: jax.Array, *, least: jax.Array | float = 0.0) -> jax.Array:
    """Each crop or window [B, *space, C] with mean 0 and standard deviation 1 per channel.

    Args:
      images: crops or windows.
      least: spread [C] below which a channel is not stretched any further.
    """
    space = tuple(range(1, images.ndim - 1))
    spread = jnp.maximum(images.std(axis=space, keepdims=True), jnp.maximum(least, 1e-6))
    return (images - images.mean(axis=space, keepdims=True)) / spread


def _loss(network: SAUNet, options: ConfigDict, scale: float, standardise: bool) -> Callable:
    """Mean squared error of labelled crops plus, ramped up, the focal consistency of the others."""

    def loss(
        trained: Tree,
        frozen: Tree,
        model_state: Tree,
        batch: Batch,
        key: jax.Array,
        step: jax.Array,
    ) -> tuple[jax.Array, tuple[Tree, dict[str, jax.Array]]]:
        del frozen
        if standardise:
            batch = {n: {**b, "image": standardised(b["image"])} for n, b in batch.items()}
        rows = batch["labelled"]
        output, model_state_after = _student(network, trained, model_state, batch, key, options)
        n = rows["image"].shape[0]
        space = tuple(range(1, output.ndim))
        errors = ((output[:n] - scale * rows["target"]) ** 2).mean(axis=space)
        supervised = masked_mean(errors, rows["mask"])
        metrics = {"supervised": supervised}
        value = supervised
        if "unlabelled" in batch:
            others = batch["unlabelled"]
            teacher = network.apply({"params": trained, **model_state}, others["image"])
            agreement = focal_consistency(
                output[n:],
                jax.lax.stop_gradient(jnp.asarray(teacher)),
                normalise=options.normalise,
                peak_threshold=options.peak_threshold,
                mask=others["mask"],
            )
            ramp = consistency_ramp(step, ramp_steps=options.ramp_steps, shape=options.ramp_shape)
            weight = options.weight * ramp
            metrics |= {"consistency": agreement, "consistency_weight": weight}
            value = supervised + weight * agreement
        return value, (model_state_after, {**metrics, "loss": value})

    return loss


def _student(
    network: SAUNet,
    trained: Tree,
    model_state: Tree,
    batch: Batch,
    key: jax.Array,
    options: ConfigDict,
) -> tuple[jax.Array, Tree]:
    """Maps of all crops, labelled ones first, and the model state after them.

    Batch norm goes by the labelled crops: noise in its statistics would be there for all.
    """
    streams = [batch[name] for name in ("labelled", "unlabelled") if name in batch]
    images = jnp.concatenate([rows["image"] for rows in streams])
    n = streams[0]["image"].shape[0]
    mask = jnp.zeros(len(images)).at[:n].set(streams[0]["mask"])
    dropout_key, noise_key = jax.random.split(key)
    noise = functools.partial(
        inject_noise,
        noise_key,
        rows=jnp.arange(len(images)) >= n,
        levels=options.noise_levels,
        amplitude=options.noise_amplitude,
        shared=options.noise_shared,
    )
    output, updates = network.apply(
        {"params": trained, **model_state},
        images,
        train=True,
        mask=mask,
        noise=noise if len(streams) > 1 else None,
        rngs={"dropout": dropout_key},
        mutable=["batch_stats"],
    )
    return jnp.asarray(output), {**model_state, **updates}


def _finish(network: SAUNet, model: ConfigDict) -> Callable[[Variables, Tree], Variables] | None:
    """What is taken from the labelled images, unchanged and whole, once training has ended."""
    steps: list[Callable[[Variables, Tree], Variables]] = []
    if model.standardise:
        steps.append(_with_least_spread)
    if model.norm == "batch":
        steps.append(_extension(network, model.standardise))
    if not steps:
        return None

    def finish(variables: Variables, data: Tree) -> Variables:
        for step in steps:
            variables = step(variables, data)
        return variables

    return finish


def _with_least_spread(variables: Variables, data: Tree) -> Variables:
    images = jnp.asarray(data["labelled"]["image"])
    spread = images.std(axis=tuple(range(1, images.ndim - 1))).min(axis=0)
    return variables._replace(extras={"least_spread": DIMMEST * spread})


def _extension(network: SAUNet, standardise: bool) -> Callable[[Variables, Tree], Variables]:
    """SAU-Net's batch-norm extension: statistics of the labelled images."""
    still = network.clone(dropout=0.0)

    @jax.jit
    def update(statistics: Tree, given: tuple[Tree, jax.Array]) -> Tree:
        params, images = given
        changed: Any = still.apply(
            {"params": params, "batch_stats": statistics},
            images,
            train=True,
            mask=jnp.ones(len(images)),
            mutable=["batch_stats"],
        )
        return changed[1]["batch_stats"]

    def finish(variables: Variables, data: Tree) -> Variables:
        images = jnp.asarray(data["labelled"]["image"])
        images = standardised(images) if standardise else images
        parts = [images[i : i + EXTENSION_ROWS] for i in range(0, len(images), EXTENSION_ROWS)]
        statistics = recalibrate_batch_norm(
            update,
            variables.model_state["batch_stats"],
            (((variables.trained, part), len(part)) for part in parts),
        )
        return variables._replace(model_state={"batch_stats": statistics})

    return finish
