"""Projection: each prototype becomes an exact copy of its nearest training feature vector.

A fold over batches: `project_start`, then `project_update` per batch with global image ids (or
partial folds joined by `project_merge`), then `project_finish`. The result does not depend on how
the images were batched. `project` does it for feature maps held as one array.

Source: CountXplain (MIDL 2025); ProtoPNet (NeurIPS 2019), prototype projection.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from cellcount_jax.models.prototypes.distances import squared_distances

NOWHERE = -1
"""Image, row and column of a prototype that found no feature vector."""


class Nearest(NamedTuple):
    """The n nearest feature vectors of each prototype so far, nearest first, no vector twice.

    n is 1, or K for a unique projection, where up to K - 1 may go to other prototypes.
    Ties go to the first in (image, row, column) order. A vector not found yet has distance inf.

    Attributes:
      distance: Squared distance, [K, n].
      vector: Exact copy of the feature vector, [K, n, d].
      image: Global id of the image, [K, n].
      row: Row in the feature map, [K, n].
      column: Column in the feature map, [K, n].
    """

    distance: jax.Array
    vector: jax.Array
    image: jax.Array
    row: jax.Array
    column: jax.Array


UNIQUE = ("", "vector", "image")
"""What no two prototypes may share after a projection: nothing, a feature vector, an image."""


def project(
    prototypes: jax.Array, feature_maps: jax.Array, *, unique: str = ""
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Nearest feature vector of each prototype over all images and positions.

    Args:
      prototypes: [K, d].
      feature_maps: Processed features of the training images, [N, h, w, d].
      unique: "vector": no two prototypes may become the same vector: the nearest pair of prototype
        and vector goes first, the rest choose among the vectors left; "image": or come from the
        same image.

    Returns:
      Prototypes [K, d], exact copies; and where they come from, arrays [K]: `image` (index into
      N), `row`, `column` and `distance` (squared, of the move). A prototype for which no vector is
      left stays as it was, with image, row and column -1 and distance inf.

    Raises:
      ValueError: Shapes do not fit.
    """
    best = project_update(
        project_start(prototypes, unique=unique),
        prototypes,
        feature_maps,
        jnp.arange(feature_maps.shape[0]),
        unique=unique,
    )
    return project_finish(best, prototypes, unique=unique)


def project_start(prototypes: jax.Array, *, unique: str = "") -> Nearest:
    """Nothing found yet; `unique` as in `project`."""
    size, channels = prototypes.shape
    shape = (size, size if unique else 1)
    nowhere = jnp.full(shape, NOWHERE, jnp.int32)
    return Nearest(
        distance=jnp.full(shape, jnp.inf, jnp.float32),
        vector=jnp.zeros((*shape, channels), jnp.float32),
        image=nowhere,
        row=nowhere,
        column=nowhere,
    )


@functools.partial(jax.jit, static_argnames="unique")
def project_update(
    best: Nearest,
    prototypes: jax.Array,
    feature_maps: jax.Array,
    image_ids: jax.Array,
    *,
    mask: jax.Array | None = None,
    allowed: jax.Array | None = None,
    unique: str = "",
) -> Nearest:
    """`best` with the feature maps of one more batch taken into account.

    Args:
      best: Result of `project_start` or an earlier update.
      prototypes: [K, d], the same in every update.
      feature_maps: [B, h, w, d].
      image_ids: Global number of each image, [B]; decides ties and is reported.
      mask: 1 for real images, 0 for padding rows, [B]; None: all are real.
      allowed: Whether a prototype may become the feature of a position, [B, h, w, K] bool; None:
        all may.
      unique: As in `project_start`.

    Raises:
      ValueError: Shapes do not fit.
    """
    distances = squared_distances(feature_maps, prototypes)
    batch, height, width, channels = feature_maps.shape
    if image_ids.shape != (batch,):
        raise ValueError(
            f"project: image ids {image_ids.shape} do not fit feature maps {feature_maps.shape}"
        )
    if mask is not None:
        distances = jnp.where(mask.reshape(-1, 1, 1, 1) > 0, distances, jnp.inf)
    if allowed is not None:
        distances = jnp.where(allowed, distances, jnp.inf)
    grid = (batch, height, width)
    image = jnp.broadcast_to(image_ids.astype(jnp.int32)[:, None, None], grid)
    row = jax.lax.broadcasted_iota(jnp.int32, grid, 1)
    column = jax.lax.broadcasted_iota(jnp.int32, grid, 2)
    places = Nearest(
        distance=distances.reshape(-1, prototypes.shape[0]).T,
        vector=feature_maps.astype(jnp.float32).reshape(1, -1, channels),
        image=image.reshape(1, -1),
        row=row.reshape(1, -1),
        column=column.reshape(1, -1),
    )
    here = _select(places, best.distance.shape[1], unique)
    return project_merge(best, here, unique=unique)


@functools.partial(jax.jit, static_argnames="unique")
def project_merge(first: Nearest, second: Nearest, *, unique: str = "") -> Nearest:
    """Merges two results into that of a fold over the images of both."""
    both = Nearest(*(jnp.concatenate(pair, axis=1) for pair in zip(first, second, strict=True)))
    return _select(both, first.distance.shape[1], unique)


@functools.partial(jax.jit, static_argnames="unique")
def project_finish(
    best: Nearest, prototypes: jax.Array, *, unique: str = ""
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Projected prototypes and where they come from, as `project` returns them."""
    size, n = best.distance.shape

    def assign(_: int, state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        """Assigns the nearest pair left; its prototype and its vector are closed to the others."""
        choice, left = state
        index, candidate = jnp.divmod(left.argmin(), n)
        found = jnp.isfinite(left[index, candidate])
        if unique == "image":
            closed = best.image == best.image[index, candidate]
        else:
            closed = (best.vector == best.vector[index, candidate][None, None]).all(axis=-1)
        closed |= (jnp.arange(size) == index)[:, None]
        choice = jnp.where(found, choice.at[index].set(candidate), choice)
        return choice, jnp.where(closed, jnp.inf, left)

    if n == 1:
        choice = jnp.where(jnp.isfinite(best.distance[:, 0]), 0, NOWHERE)
    else:
        unassigned = jnp.full((size,), NOWHERE)
        choice, _ = jax.lax.fori_loop(0, size, assign, (unassigned, best.distance))
    found = choice != NOWHERE
    chosen = Nearest(*(leaf[jnp.arange(size), choice] for leaf in best))
    provenance = {
        "image": jnp.where(found, chosen.image, NOWHERE),
        "row": jnp.where(found, chosen.row, NOWHERE),
        "column": jnp.where(found, chosen.column, NOWHERE),
        "distance": jnp.where(found, chosen.distance, jnp.inf),
    }
    return jnp.where(found[:, None], chosen.vector, prototypes), provenance


def _select(places: Nearest, n: int, unique: str) -> Nearest:
    """The n first distinct vectors of each prototype by (distance, image, row, column).

    Where prototypes must come from different images, one vector of an image is enough.

    Places are [K, M]; what all prototypes share may be [1, M].
    """
    size = places.distance.shape[0]

    def pick(distance: jax.Array, _: None) -> tuple[jax.Array, Nearest]:
        left = places._replace(distance=distance)
        index = _first((distance, places.image, places.row, places.column))
        owner = jnp.arange(size)
        chosen = Nearest(*(x[jnp.minimum(owner, x.shape[0] - 1), index] for x in left))
        if unique == "image":
            same = places.image == chosen.image[:, None]
        else:
            same = (places.vector == chosen.vector[:, None]).all(axis=-1)
        found = jnp.isfinite(chosen.distance)
        chosen = Nearest(
            distance=chosen.distance,
            vector=jnp.where(found[:, None], chosen.vector, 0.0),
            image=jnp.where(found, chosen.image, NOWHERE),
            row=jnp.where(found, chosen.row, NOWHERE),
            column=jnp.where(found, chosen.column, NOWHERE),
        )
        return jnp.where(same, jnp.inf, distance), chosen

    _, chosen = jax.lax.scan(pick, places.distance, length=n)
    return Nearest(*(x.swapaxes(0, 1) for x in chosen))


def _first(keys: tuple[jax.Array, ...]) -> jax.Array:
    """Index [K] of the least entry of each row in lexicographic order of `keys` [K or 1, M]."""
    alive = jnp.ones(keys[0].shape, bool)
    for key in keys:
        beyond = jnp.inf if jnp.issubdtype(key.dtype, jnp.floating) else jnp.iinfo(key.dtype).max
        rest = jnp.where(alive, key, jnp.array(beyond, key.dtype))
        alive &= rest == rest.min(axis=1, keepdims=True)
    return alive.argmax(axis=1)
