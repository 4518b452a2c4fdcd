"""The networks compared with PyTorch, as this package runs them, on synthetic images.

A case is a stage of a method (`cellcount_jax.methods`) with its variables, images to predict on, a
batch to train on, and the same for its PyTorch twin in `benchmarks.speed.torch_reference`.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
from flax import traverse_util

from benchmarks.speed.case import Arrays, Case, Settings
from benchmarks.speed.sau_net_stage import supervised
from cellcount_jax.data import targets
from cellcount_jax.methods import build_stages, csrnet
from cellcount_jax.methods.base import Stage, Tree, Variables
from cellcount_jax.models.sau_net import DROPOUT, SAUNet
from cellcount_jax.training import optimizer
from configs import countxplain_vgg, csrnet_vgg, dcl_vgg, nuclei

SPACE = {2: (256, 256), 3: (32, 96, 96)}


def build(name: str, settings: Settings) -> Case:
    """The case of a name in `CASES`, the same numbers every time."""
    return CASES[name](name, settings)


def _dcl(name: str, settings: Settings) -> Case:
    config = dcl_vgg.get_config()
    config.localizer.enabled = False
    config.model.start_at_mean = False
    rows = _rows(settings, ndim=2, channels=3)
    (stage,) = _stages(config, settings)
    tx = _optimizer(config.stages.counter)
    options = {"width": settings.width}
    return _case(name, stage, tx, rows, fields=("image", "count"), options=options)


def _csrnet_config(name: str) -> ml_collections.ConfigDict:
    config = csrnet_vgg.get_config("imagenet")
    config.model.pretrained = None
    # Without imported weights the published initialisation leaves next to nothing of the signal.
    config.model.kernel_init = "he"
    config.model.batch_norm = name == "csrnet_batch_norm"
    return config


def _csrnet(name: str, settings: Settings) -> Case:
    config = _csrnet_config(name)
    rows = _rows(settings, ndim=2, channels=3)
    (stage,) = _stages(config, settings)
    tx = _optimizer(config.stages.csrnet)
    options = {"width": settings.width}
    case = _case(name, stage, tx, rows, fields=("image", "target", "count"), options=options)
    pooled = targets.sum_pool(rows["target"], csrnet.BLOCKS)
    return dataclasses.replace(case, twin_batch={"image": rows["image"], "target": pooled})


def _unet(name: str, settings: Settings) -> Case:
    config = nuclei.get_config("quick")
    width = settings.width
    config.model.channels = tuple(max(1, round(width * c)) for c in config.model.channels)
    rows = _rows(settings, ndim=2, channels=1)
    config.dtype = settings.dtype
    (stage,) = build_stages(config)
    tx = _optimizer(config.stages.density)
    options = unet_options(config)
    return _case(name, stage, tx, rows, fields=("image", "target"), options=options)


def unet_options(config: ml_collections.ConfigDict) -> dict[str, Any]:
    """Arguments of the twin of a default counter."""
    return {
        "channels": list(config.model.channels),
        "image_channels": config.preprocessing.channels,
        "scale": config.model.target_scale,
    }


def _countxplain(name: str, settings: Settings) -> Case:
    config = countxplain_vgg.on_top_of(_csrnet_config(name), "imagenet")
    rows = _rows(settings, ndim=2, channels=3)
    first, stage = _stages(config, settings)
    extractor = _perturbed(first.init(jax.random.key(0), {"labelled": rows}, {}))
    made = stage.init(jax.random.key(1), {"labelled": rows}, {first.name: extractor})
    variables = _perturbed(made)
    assert stage.prepare is not None
    stored = stage.prepare({"labelled": rows}, variables.frozen)["labelled"]
    held = {"head": variables.trained, "extractor": variables.frozen["trained"]}
    return Case(
        name=name,
        stage=stage,
        variables=variables,
        tx=_optimizer(config.stages.prototypes),
        images=rows["image"],
        batch={"labelled": _kept(stored, "image", "target", "count", "mask")},
        options={"width": settings.width, "n_prototypes": config.prototypes.n_prototypes},
        params=_flat(held),
        batch_stats={},
        twin_batch={"features": stored["image"], "target": stored["target"]},
    )


def _sau_net(name: str, settings: Settings) -> Case:
    ndim = int(name[-2])
    rows = _rows(settings, ndim=ndim, channels=3 if ndim == 2 else 1)
    dropout = DROPOUT["instance"] if settings.dropout is None else settings.dropout
    base = max(1, round(32 * settings.width))
    network = SAUNet(
        ndim=ndim, base_channels=base, dropout=dropout, dtype=jnp.dtype(settings.dtype)
    )
    stage = supervised(network)
    # As released: the decay is the learning rate itself, not multiplied by it again.
    tx = optimizer.make_optimizer("adamw", 1e-3, weight_decay=1.0)
    options = {"base_channels": base, "dropout": dropout}
    fields = ("image", "target")
    return _case(name, stage, tx, rows, fields=fields, options=options, start=_milder)


def _case(
    name: str,
    stage: Stage,
    tx: optax.GradientTransformation,
    rows: Tree,
    *,
    fields: tuple[str, ...],
    options: dict[str, Any],
    start: Callable[[Variables], Variables] = lambda variables: variables,
) -> Case:
    """A case of one stage, all of which is trained, on some fields of the rows.

    Args:
      name: Name of the case.
      stage: Stage of the method.
      tx: Its optimizer.
      rows: Rows from `_rows`.
      fields: Fields that the loss needs besides the mask, which the twin does not use.
      options: Options of the twin.
      start: Changes the initial variables.
    """
    variables = _perturbed(start(stage.init(jax.random.key(0), {"labelled": rows}, {})))
    return Case(
        name=name,
        stage=stage,
        variables=variables,
        tx=tx,
        images=rows["image"],
        batch={"labelled": _kept(rows, *fields, "mask")},
        options=options,
        params=_flat(variables.trained),
        batch_stats=_flat(variables.model_state.get("batch_stats", {})),
        twin_batch=_kept(rows, *fields),
    )


CASES: dict[str, Callable[[str, Settings], Case]] = {
    "dcl": _dcl,
    "csrnet": _csrnet,
    "csrnet_batch_norm": _csrnet,
    "countxplain": _countxplain,
    "unet": _unet,
    "sau_net_2d": _sau_net,
    "sau_net_3d": _sau_net,
}

LOSSES = {
    "dcl": "L1 of the count, Adam",
    "csrnet": "MSE of the map, Adam",
    "csrnet_batch_norm": "MSE of the map, Adam",
    "countxplain": "the prototypes' four losses on stored features, Adam",
    "unet": "MSE of the map, Adam",
    "sau_net_2d": "MSE of the map, AdamW",
    "sau_net_3d": "MSE of the map, AdamW",
}
"""What a training step minimises, and how."""


def _stages(config: ml_collections.ConfigDict, settings: Settings) -> tuple[Stage, ...]:
    config.dtype, config.model.width = settings.dtype, settings.width
    return build_stages(config)


def _optimizer(plan: ml_collections.ConfigDict) -> optax.GradientTransformation:
    return optimizer.from_config(plan.optimizer, steps=10_000, steps_per_epoch=100)


def _rows(settings: Settings, *, ndim: int, channels: int) -> Tree:
    """Noise as normalised images, and noise as targets: the speed does not depend on them."""
    rng = np.random.default_rng(0)
    batch = settings.batch if ndim == 2 else 1
    space = settings.space or SPACE[ndim]
    return {
        "image": rng.normal(size=(batch, *space, channels)).astype(np.float32),
        "target": rng.uniform(size=(batch, *space)).astype(np.float32) / 100,
        "dots": np.zeros((batch, *space), np.float32),
        "count": rng.integers(20, 200, batch).astype(np.float32),
        "mask": np.ones(batch, np.float32),
        "size": np.full((batch, ndim), space, np.int32),
        "index": np.arange(batch, dtype=np.int32),
    }


def _kept(rows: Tree, *names: str) -> Tree:
    return {name: np.asarray(rows[name]) for name in names}


def _milder(variables: Variables) -> Variables:
    """Smaller queries and keys: their products reach 100 as initialised, and such a softmax
    magnifies the rounding before it, PyTorch's too, to 1e-4 of the map."""
    attention = dict(variables.trained["attention"])
    for name in ("theta", "phi"):
        attention[name] = {**attention[name], "kernel": attention[name]["kernel"] / 2}
    return variables._replace(trained={**variables.trained, "attention": attention})


def _perturbed(variables: Variables) -> Variables:
    """Moves biases, scales and statistics off their initial 0 and 1, so that a mix-up shows."""
    rng = np.random.default_rng(1)

    def move(leaf: jax.Array) -> jax.Array:
        noise = rng.uniform(0.0, 0.2, leaf.shape)
        return leaf + jnp.asarray(noise, leaf.dtype) if leaf.ndim == 1 else leaf

    trained, model_state = jax.tree.map(move, (variables.trained, variables.model_state))
    return variables._replace(trained=trained, model_state=model_state)


def _flat(tree: Tree) -> Arrays:
    flat = traverse_util.flatten_dict(tree, sep="/")
    return {name: np.asarray(value) for name, value in flat.items()}
