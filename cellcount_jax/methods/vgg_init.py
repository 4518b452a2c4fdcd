"""Initial variables of counters built on a VGG: imported weights, and the mean count."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from cellcount_jax.methods.base import Batch, InitFn, Variables
from cellcount_jax.models import pretrained


def init_from_vgg(
    network_init: Callable[[jax.Array, jax.Array], Any],
    model: ConfigDict,
    *,
    vgg: str,
    depth: int,
    n_convs: int | None = None,
    stride: int,
    scale: float = 1.0,
) -> InitFn:
    """The `Stage.init` of a network with a VGG inside and a 1x1 convolution `head` at its end.

    Args:
      network_init: Key and image -> variables, the `init` of the network.
      model: The fields `pretrained` (weight file, "imagenet" or None), `batch_norm`, `width`, and
        `start_at_mean`: the head's bias predicts the mean count of the data.
      vgg: Name of the VGG in the network.
      depth: Depth of the VGG.
      n_convs: Number of its first convolutions to use; None for all.
      stride: Pixels per position of the map.
      scale: Ratio of the map to the density.
    """

    def init(key: jax.Array, batch: Batch, previous: Mapping[str, Variables]) -> Variables:
        del previous
        image, count = batch["labelled"]["image"], batch["labelled"]["count"]
        variables = network_init(key, image[:1])
        params, batch_stats = variables["params"], variables.get("batch_stats", {})
        if model.pretrained:
            weights = pretrained.load_vgg(
                model.pretrained,
                depth=depth,
                batch_norm=model.batch_norm,
                width=model.width,
                n_convs=n_convs,
            )
            params = {**params, vgg: weights["params"]}
            if model.batch_norm:
                batch_stats = {**batch_stats, vgg: weights["batch_stats"]}
        if model.start_at_mean:
            # From scratch, the first epochs would be spent on finding the mean count.
            positions = (image.shape[1] // stride) * (image.shape[2] // stride)
            bias = jnp.full_like(params["head"]["bias"], scale * count.mean() / positions)
            params = {**params, "head": {**params["head"], "bias": bias}}
        return Variables(params, {}, {"batch_stats": batch_stats}, {})

    return init
