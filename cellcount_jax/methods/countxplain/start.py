"""Initialises prototypes at the centres of clusters of training features."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy.cluster import vq

from cellcount_jax.methods.base import Tree
from cellcount_jax.methods.countxplain import places

MAX_FEATURES = 20_000
"""Number of positions that are clustered."""


def from_clusters(params: Tree, rows: Tree, key: jax.Array) -> Tree:
    """Parameters of a head whose space is that of whitened features, prototypes among them.

    The first layer maps features onto directions in which they vary alike, so that cells begin as
    far apart as cells and background; each group of prototypes begins at the centres of k-means
    clusters (k-means++ start), of the positions densest in cells and of the emptiest ones.

    Args:
      params: Parameters of `PrototypeHead`, for their shapes.
      rows: Stored features `image` [N, h, w, C] and `target` [N, h, w].
      key: Random key.
    """
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)).tolist())
    features = np.asarray(rows["image"], np.float64).reshape(-1, rows["image"].shape[-1])
    mean = features.mean(axis=0)
    values, vectors = np.linalg.eigh(np.cov(features.T))
    whitening = vectors / np.sqrt(np.maximum(values, 1e-3 * values.max()))
    channels = params["prototypes"].shape[1]
    turned = rng.normal(size=(len(mean), channels))
    kernel = whitening @ (turned / np.linalg.norm(turned, axis=0))
    bias = -mean @ kernel
    processed = 1.0 / (1.0 + np.exp(-(features @ kernel + bias)))
    n_cell = len(params["prototypes"]) // 2
    full = places.dense(rows["target"]).reshape(-1)
    empty = places.empty(rows["target"]).reshape(-1)
    prototypes = np.concatenate(
        [
            _centres(processed[full], n_cell, rng),
            _centres(processed[empty], len(params["prototypes"]) - n_cell, rng),
        ]
    )
    layer = {"kernel": kernel[None, None], "bias": bias}
    old = {"process": params["process"], "prototypes": params["prototypes"]}
    new = {"process": layer, "prototypes": prototypes}
    return {**params, **jax.tree.map(lambda o, n: jnp.asarray(n, o.dtype), old, new)}


def _centres(points: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    if len(points) > MAX_FEATURES:
        points = points[rng.choice(len(points), MAX_FEATURES, replace=False)]
    return vq.kmeans2(points, n, minit="++", seed=rng)[0]
