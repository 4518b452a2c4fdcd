"""CountXplain (MIDL 2025): a count made of similarities to prototypes of cells and background.

Stage `csrnet`: the density network that is explained. Stage `prototypes`: with that network
frozen, its features pass a 1x1 convolution and a sigmoid, are compared with K prototypes, and the
similarities to the cell prototypes, weighted, are the density. At the end every prototype becomes
the training feature nearest to it, so that it can be shown.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from cellcount_jax import losses
from cellcount_jax.data import targets
from cellcount_jax.data.augment import IntensityJitter
from cellcount_jax.methods import csrnet
from cellcount_jax.methods.base import (
    Batch,
    LossResult,
    Prototypes,
    Readout,
    Stage,
    StepInput,
    Tree,
    Variables,
)
from cellcount_jax.methods.countxplain import start
from cellcount_jax.methods.countxplain.projection import PrototypeProjector, chunks, unprojected
from cellcount_jax.models.csrnet import STRIDE
from cellcount_jax.models.prototypes.head import DENSITY_INPUTS, DensityLayer, PrototypeHead
from cellcount_jax.models.prototypes.projection import UNIQUE

Extract = Callable[[Tree, jax.Array], dict[str, jax.Array]]

NAME = "prototypes"
"""Name of the stage."""

CHUNK_ROWS = 8
"""Number of images whose features are computed together."""

CHOICES = {
    "density_inputs": DENSITY_INPUTS,
    "reduction": ("sum", "mean"),
    "places": ("one", "separate"),
    "diversity": ("cosine", "distance"),
    "start": ("random", "clusters"),
    "distinct": UNIQUE,
}


def stages(config: ConfigDict) -> tuple[Stage, ...]:
    """The density network and the prototypes.

    Raises:
      ValueError: K odd or below 2, an unknown option, or augmentation of stored features.
    """
    _check(config)
    return csrnet.stage(config), _prototype_stage(config)


def _prototype_stage(config: ConfigDict) -> Stage:
    options, head = config.prototypes, head_of(config.prototypes)
    extract = _extractor(config)
    prepare = functools.partial(_with_features, extract)
    projector = PrototypeProjector(
        head, unique=options.distinct, by_density=options.project_by_density
    )

    def init(key: jax.Array, batch: Batch, previous: Mapping[str, Variables]) -> Variables:
        before = previous[csrnet.NAME]
        frozen = {"trained": before.trained, "model_state": before.model_state}
        image = batch["labelled"]["image"][:1]
        shape = jax.eval_shape(extract, frozen, image)["features"].shape
        params = head.init(key, jnp.zeros(shape))["params"]
        if options.start == "clusters":
            params = start.from_clusters(params, prepare(batch, frozen)["labelled"], key)
        return Variables(params, frozen, {}, unprojected(options.n_prototypes))

    def predict(variables: Variables, images: jax.Array) -> dict[str, jax.Array]:
        maps = extract(variables.frozen, images)
        found: Any = head.apply({"params": variables.trained}, maps["features"])
        shown = {name: found[name] for name in ("density", "similarity", "contribution")}
        return {**shown, "extractor_density": maps["extractor_density"]}

    def between_epochs(variables: Variables, data: Tree, epoch: int) -> Variables:
        if not options.project_every or epoch % options.project_every:
            return variables
        return projector.project(variables, data["labelled"])

    return Stage(
        name=NAME,
        init=init,
        loss=_loss(head, options),
        predict=predict,
        readout=Readout(count_map="density"),
        stride=STRIDE,
        halo=csrnet.HALO,
        target=csrnet.target_map(config.model.sigma, adaptive=config.model.adaptive_sigma),
        prepare=prepare,
        between_epochs=between_epochs,
        finish=functools.partial(_finish, projector, options=options),
        explain=functools.partial(explain, options=options),
    )


def head_of(options: Mapping[str, Any]) -> PrototypeHead:
    """The head that `config.prototypes` describes."""
    return PrototypeHead(
        options["n_prototypes"],
        density_inputs=options["density_inputs"],
        channels=options["channels"],
        contrast=options["contrast"],
    )


def _extractor(config: ConfigDict) -> Extract:
    """From frozen variables and images to features and the density that is explained."""
    net, scale = csrnet.network(config), float(config.model.target_scale)

    def extract(frozen: Tree, images: jax.Array) -> dict[str, jax.Array]:
        state = frozen.get("model_state") or {}
        maps: Any = net.apply({"params": frozen["trained"], **state}, images)
        maps = jax.lax.stop_gradient(maps)
        return {"features": maps["features"], "extractor_density": maps["density"] / scale}

    return extract


def _with_features(extract: Extract, data: Tree, frozen: Tree) -> Tree:
    """Puts features in the place of images, and their targets at their stride."""
    rows = data["labelled"]
    compute = jax.jit(lambda images: extract(frozen, images)["features"])
    n = len(rows["image"])
    features = [np.asarray(compute(rows["image"][ids])) for ids, _ in chunks(n, CHUNK_ROWS)]
    stored = {"image": np.concatenate(features)[:n], "source_image": rows["image"]}
    stored |= {n: targets.sum_pool(rows[n], csrnet.BLOCKS) for n in ("target", "dots")}
    return {**data, "labelled": {**rows, **stored, "size": rows["size"] // STRIDE}}


def _loss(head: PrototypeHead, options: ConfigDict) -> Callable[[Tree, StepInput], LossResult]:
    n_cell = options.n_prototypes // 2

    def loss(trained: Tree, inputs: StepInput) -> LossResult:
        rows = inputs.batch["labelled"]  # Features in the place of images, see `_with_features`.
        maps: Any = head.apply({"params": trained}, rows["image"])
        density = losses.density_mse(
            maps["density"], rows["target"], scale=options.density_scale, mask=rows["mask"]
        )
        where = {"n_cell": n_cell, "mask": rows["mask"]}
        if options.places == "one":
            cell, background = losses.prototype_to_feature(
                maps["distances"], rows["target"], reduction=options.reduction, **where
            )
        else:
            cell, background = losses.prototype_to_peaks(
                maps["distances"], rows["target"], key=inputs.key, **where
            )
        if options.diversity == "cosine":
            diversity = losses.prototype_diversity(
                trained["prototypes"], n_cell=n_cell, tau=options.tau
            )
        else:
            diversity = losses.prototype_separation(
                trained["prototypes"], n_cell=n_cell, margin=options.margin
            )
        value = options.density_weight * density
        value += options.feature_weight * (cell + options.background_weight * background)
        value += options.diversity_weight * diversity
        parts = {"density_loss": density, "diversity_loss": diversity}
        parts |= {"cell_loss": cell, "background_loss": background}
        return value, (inputs.model_state, {"loss": value, **parts})

    return loss


def _finish(
    projector: PrototypeProjector, variables: Variables, data: Tree, *, options: ConfigDict
) -> Variables:
    """Projects a checkpoint and keeps what is needed to show its prototypes."""
    rows, before = data["labelled"], variables.trained
    projected = projector.project(variables, rows)
    kept = {"unprojected": before["prototypes"]}
    if options.refit_density:
        share = options.least_share
        trained = projector.refit(projected.trained, rows, least_share=share)
        projected = projected._replace(trained=trained)
        kept |= {f"unprojected_density_{n}": v for n, v in before["density"].items()}
    shown = {**kept, **projector.describe(projected.trained, rows)}
    # Copies on one device: the old arrays may be donated, or lie on many.
    shown = {name: jnp.asarray(np.asarray(value)) for name, value in shown.items()}
    return projected._replace(extras={**projected.extras, **shown})


def density_weights(trained: Tree, options: Mapping[str, Any]) -> tuple[np.ndarray, float]:
    """Weight of each prototype in the density, [K] (0 where it does not count), and the bias.

    Args:
      trained: Parameters of the head.
      options: `config.prototypes`.
    """
    kind, size = options["density_inputs"], options["n_prototypes"]
    layer = DensityLayer(size if kind == "all" else size // 2, kind)
    found: Any = layer.apply({"params": trained["density"]})
    weights, bias = np.asarray(found[0], np.float64), float(found[1])
    return np.pad(weights, (0, size - len(weights))), bias


def explain(
    variables: Variables, *, options: Mapping[str, Any], stride: int = STRIDE
) -> Prototypes:
    """The prototypes of a finished stage; see `Stage.explain`.

    Args:
      variables: Variables as returned by `finish`.
      options: `config.prototypes`.
      stride: Pixels per position of the map.
    """
    trained, extras = variables.trained, variables.extras
    weights, bias = density_weights(trained, options)
    density = {
        # Kept where the weights were refitted after the projection.
        name: extras.get(f"unprojected_density_{name}", value)
        for name, value in trained["density"].items()
    }
    before = {**trained, "prototypes": extras["unprojected"], "density": density}
    return Prototypes(
        n_cell=options["n_prototypes"] // 2,
        stride=stride,
        vectors=np.asarray(trained["prototypes"]),
        weights=weights,
        bias=bias,
        before_projection=variables._replace(trained=before),
        provenance={name: np.asarray(value) for name, value in extras.items()},
    )


def _check(config: ConfigDict) -> None:
    options = config.prototypes
    size = options.n_prototypes
    if size < 2 or size % 2:
        raise ValueError(
            f"config.prototypes.n_prototypes is {size}; it must be even and at least 2, "
            "half for cells and half for background"
        )
    for name, choices in CHOICES.items():
        if options[name] not in choices:
            raise ValueError(
                f"config.prototypes.{name} is {options[name]!r}; it is one of {', '.join(choices)}"
            )
    plan = config.stages[NAME]
    changes = [n for n in ("crop", "mosaic", "flips", *IntensityJitter._fields) if plan[n]]
    if changes:
        raise ValueError(
            f"config.stages.{NAME}.{changes[0]} is {plan[changes[0]]}: this stage trains on "
            "features that were computed once, which cannot be augmented; set it to "
            "None (crop), False (flips) or 0"
        )
