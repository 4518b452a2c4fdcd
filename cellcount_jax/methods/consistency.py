"""Focal consistency: SAU-Net on inverse-distance maps, with unlabelled images (MOVI 2022).

The student sees labelled and unlabelled crops, the unlabelled ones with noise on their features;
the teacher is the same network without noise, dropout and gradient, see `consistency_loss`.
Without unlabelled images, or with a consistency weight of 0, this is the original SAU-Net (ACM BCB
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
from cellcount_jax.methods import postprocess
from cellcount_jax.methods.base import (
    Batch,
    Readout,
    Stage,
    Tree,
    Variables,
    single_cell_peak,
)
from cellcount_jax.methods.consistency_loss import (
    check_options,
    initial_sizes,
    make_loss,
    standardised,
)
from cellcount_jax.models.recalibrate_batch_norm import recalibrate_batch_norm
from cellcount_jax.models.sau_net import SAUNet

MAP_NAMES = {"inverse_distance": "inverse_distance", "gaussian": "density"}
"""Name of the map that a network with each kind of target predicts."""

UNSHARP_MAP = "sharpened"
"""Name of the map that peaks are read from if `config.model.unsharp_sigma` is set."""

HALO_DIVISOR = 8
"""Windows overlap by their shortest side divided by this: the network has global operations, so no
overlap is exact, but its maps are worst at the borders."""

MIN_SPREAD_RATIO = 0.25
"""Windows whose intensity spread is less than this fraction of the flattest labelled image's are
not stretched further: an image without cells has only noise to stretch."""

RECALIBRATION_ROWS = 8
"""Images per batch when batch-norm statistics are recomputed."""


def stages(config: ConfigDict) -> tuple[Stage, ...]:
    """One stage, `consistency`.

    Raises:
      ValueError: An unknown kind of target, or options that `check_options` refuses.
    """
    model, window = config.model, tuple(config.model.window)
    if model.target not in MAP_NAMES:
        raise ValueError(
            f"config.model.target: {model.target!r} is not one of {', '.join(sorted(MAP_NAMES))}"
        )
    check_options(config)
    relative = config.consistency.scale == "relative"
    network = SAUNet(
        ndim=len(window),
        base_channels=model.base_channels,
        levels=model.levels,
        norm=model.norm,
        dropout=model.dropout,
        dtype=jnp.dtype(config.dtype),
    )

    def init(key: jax.Array, batch: Batch, previous: Mapping[str, Variables]) -> Variables:
        del previous
        # A corner of the first image: the parameters do not depend on the size.
        corner = (slice(1), *[slice(2 ** (model.levels - 1))] * len(window))
        image = jnp.asarray(batch["labelled"]["image"])[corner]
        variables = dict(jax.jit(network.init)(key, image))
        trained = variables.pop("params")
        sizes = {"term_sizes": initial_sizes()} if relative else {}
        return Variables(trained, {}, {**variables, **sizes}, {})

    return (
        Stage(
            name="consistency",
            init=init,
            loss=make_loss(network, config),
            predict=_predict(network, model),
            readout=_readout(model),
            stride=2 ** (model.levels - 1),
            window=window,
            target=_target(model),
            halo=min(window) // HALO_DIVISOR,
            finish=_finish(network, model),
        ),
    )


def _target(model: ConfigDict) -> Callable:
    if model.target == "gaussian":
        return functools.partial(targets.gaussian_density, sigma=tuple(model.sigma))
    spacing = None if model.spacing is None else tuple(model.spacing)
    return functools.partial(targets.inverse_distance_map, spacing=spacing, cutoff=model.cutoff)


def _predict(
    network: SAUNet, model: ConfigDict
) -> Callable[[Variables, jax.Array], dict[str, jax.Array]]:
    sigma = unsharp_sigma(model)

    def predict(variables: Variables, images: jax.Array) -> dict[str, jax.Array]:
        if model.standardise:
            images = standardised(images, least=variables.extras.get("least_spread", 0.0))

        def apply(images: jax.Array) -> jax.Array:
            given = {"params": variables.trained, **variables.model_state}
            return jnp.asarray(network.apply(given, images)) / float(model.target_scale)

        if model.test_time_augmentation:
            map = postprocess.with_test_time_augmentation(apply, images)
        else:
            map = apply(images)
        maps = {MAP_NAMES[model.target]: map}
        if sigma:
            maps[UNSHARP_MAP] = postprocess.unsharp_peaks(map, sigma=sigma)
        return maps

    return predict


def unsharp_sigma(model: ConfigDict) -> tuple[float, ...] | None:
    """Blur of unsharp peaks in voxels of each axis; None: peaks are read from the map itself."""
    if not model.unsharp_sigma:
        return None
    spacing = (1.0,) * len(model.window) if model.spacing is None else tuple(model.spacing)
    return tuple(model.unsharp_sigma * spacing[-1] / size for size in spacing)


def _readout(model: ConfigDict) -> Readout:
    """Inverse distances count by their points; a density by its integral, and it has points."""
    sigma, target = unsharp_sigma(model), _target(model)
    if sigma is None:
        peak = single_cell_peak(target, tuple(2 * round(4 * s) + 1 for s in model.sigma))
    else:
        peak = single_cell_peak(
            lambda dots, shape: np.asarray(
                postprocess.unsharp_peaks(jnp.asarray(target(dots, shape))[None], sigma=sigma)[0]
            ),
            (41,) * len(model.window),
        )
    # Components use the same fractions of a single cell's peak as thresholds as peaks do.
    candidates = tuple(
        (decoder, t * peak if decoder == "components" else t)
        for decoder in model.decoders
        for t in model.thresholds
    )
    return Readout(
        count_map=MAP_NAMES[model.target],
        count="integral" if model.target == "gaussian" else "peaks",
        points_map=MAP_NAMES[model.target] if sigma is None else UNSHARP_MAP,
        decoder="peaks",
        threshold=0.5,
        single_cell_peak=peak,
        candidates=candidates,
        f1_tolerance=model.f1_tolerance,
    )


def _finish(network: SAUNet, model: ConfigDict) -> Callable[[Variables, Tree], Variables] | None:
    """Statistics computed from the labelled images, whole and unaugmented, after training.

    With `standardise` the least spread of a channel; with batch norm the statistics of these
    images, SAU-Net's batch-norm extension.
    """
    if not model.standardise and model.norm != "batch":
        return None
    without_dropout = network.clone(dropout=0.0)

    @jax.jit
    def update(statistics: Tree, given: tuple[Tree, jax.Array]) -> Tree:
        params, images = given
        changed: Any = without_dropout.apply(
            {"params": params, "batch_stats": statistics},
            images,
            train=True,
            mask=jnp.ones(len(images)),
            mutable=["batch_stats"],
        )
        return changed[1]["batch_stats"]

    def finish(variables: Variables, data: Tree) -> Variables:
        images = jnp.asarray(data["labelled"]["image"])
        if model.standardise:
            spread = images.std(axis=tuple(range(1, images.ndim - 1))).min(axis=0)
            variables = variables._replace(extras={"least_spread": MIN_SPREAD_RATIO * spread})
            images = standardised(images)
        if model.norm != "batch":
            return variables
        starts = range(0, len(images), RECALIBRATION_ROWS)
        chunks = [images[i : i + RECALIBRATION_ROWS] for i in starts]
        statistics = recalibrate_batch_norm(
            update,
            variables.model_state["batch_stats"],
            (((variables.trained, chunk), len(chunk)) for chunk in chunks),
        )
        return variables._replace(model_state={"batch_stats": statistics})

    return finish
