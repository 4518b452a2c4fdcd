"""The origin of prototypes: projection onto training features, and data to show them.

Everything here is a fold over feature maps that are resident on the device.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import optimize

from cellcount_jax.methods.base import Tree, Variables
from cellcount_jax.methods.countxplain import places
from cellcount_jax.models.csrnet import STRIDE
from cellcount_jax.models.prototypes.head import NON_NEGATIVE, WITH_BIAS, PrototypeHead
from cellcount_jax.models.prototypes.projection import (
    Nearest,
    project_finish,
    project_start,
    project_update,
)

CHUNK_ROWS = 16
"""Number of feature maps that are compared with the prototypes together."""

N_PATCHES = 3
"""Number of patches shown for each prototype, each from another image."""

PATCH_SIDE = 32
"""Side of a patch in pixels; less if images are smaller."""

SAMPLE_SIZE = 512
"""Number of training features kept for plots of their space."""

Rows = Mapping[str, jax.Array]
"""Fields of stored features: image [N, h, w, d], target [N, h, w], source_image [N, H, W, C]."""


def unprojected(n_prototypes: int) -> dict[str, jax.Array]:
    """Provenance of prototypes that were never projected."""
    # An array each: the training step donates them, and a buffer cannot be donated twice.
    nowhere = {n: jnp.full(n_prototypes, -1, jnp.int32) for n in ("image", "row", "column")}
    return {**nowhere, "distance": jnp.full(n_prototypes, jnp.inf, jnp.float32)}


class PrototypeProjector:
    """Projection, refit and description of one head's prototypes; holds its compiled folds.

    Args:
      head: Head whose processed features are compared with the prototypes.
      unique: What no two prototypes may share, see `models.prototypes.projection`.
      by_density: Whether to project cell prototypes only onto dense positions, and background
        prototypes only onto empty ones.
    """

    def __init__(self, head: PrototypeHead, *, unique: str, by_density: bool):
        def maps(trained: Tree, features: jax.Array) -> Any:
            return head.apply({"params": trained}, features)

        def update(
            best: Nearest,
            trained: Tree,
            features: jax.Array,
            ids: jax.Array,
            mask: jax.Array,
            allowed: jax.Array | None,
        ) -> Nearest:
            processed = maps(trained, features)["processed"]
            return project_update(
                best,
                trained["prototypes"],
                processed,
                ids,
                mask=mask,
                allowed=allowed,
                unique=unique,
            )

        def best_of_image(trained: Tree, features: jax.Array) -> tuple[jax.Array, jax.Array]:
            """Highest similarity [B, K] within each image and its flat position [B, K]."""
            similarity = maps(trained, features)["similarity"]
            flat = similarity.reshape(len(features), -1, head.n_prototypes)
            return flat.max(axis=1), flat.argmax(axis=1)

        self._size, self._kind, self._unique = head.n_prototypes, head.density_inputs, unique
        self._by_density = by_density
        self._similarities = jax.jit(lambda trained, x: maps(trained, x)["similarity"])
        self._processed = jax.jit(lambda trained, x: maps(trained, x)["processed"])
        self._update = jax.jit(update)
        self._best_of_image = jax.jit(best_of_image)

    def project(self, variables: Variables, rows: Rows) -> Variables:
        """Each prototype becomes its nearest training feature; `extras` say which.

        `image` is the number of the training image, `row` and `column` the position on the
        feature map, `distance` the squared distance of the move.
        """
        trained = variables.trained
        old = trained["prototypes"]
        best = project_start(old, unique=self._unique)
        fits = self._fitting_places(rows["target"]) if self._by_density else None
        for ids, real in chunks(len(rows["image"]), CHUNK_ROWS):
            allowed = None if fits is None else jnp.asarray(fits[ids])
            best = self._update(best, trained, rows["image"][ids], ids, real, allowed)
        new, provenance = project_finish(best, old, unique=self._unique)
        # Placed on the devices like the old ones, as the compiled training step requires.
        placed = {n: _placed_like(v, variables.extras[n]) for n, v in provenance.items()}
        return variables._replace(
            trained={**trained, "prototypes": _placed_like(new, old)},
            extras={**variables.extras, **placed},
        )

    def _fitting_places(self, target: jax.Array) -> np.ndarray:
        """Bool [N, h, w, K]: dense places for prototypes of cells, empty ones for the others."""
        n_cell = self._size // 2
        groups = [places.dense(target)] * n_cell
        groups += [places.empty(target)] * (self._size - n_cell)
        return np.stack(groups, axis=-1)

    def refit(self, trained: Tree, rows: Rows, *, least_share: float = 0.0) -> Tree:
        """Trained variables with the density layer that fits the targets best in least squares.

        The layer is linear in the similarities, so that after a projection its best weights are
        known at once (ProtoPNet, NeurIPS 2019, optimises its last layer then, too). Weights that
        cannot be negative are the best non-negative ones.

        Args:
          trained: Variables of the head.
          rows: Stored features.
          least_share: Least fraction of the true count that each prototype adds on the training
            images; only where weights cannot be negative.
        """
        n_inputs = self._size if self._kind == "all" else self._size // 2
        n_unknown = n_inputs + (self._kind in WITH_BIAS)
        products, right = np.zeros((n_unknown, n_unknown)), np.zeros(n_unknown)
        total, sums = 0.0, np.zeros(n_unknown)
        for ids, real in chunks(len(rows["image"]), CHUNK_ROWS):
            similar = np.asarray(self._similarities(trained, rows["image"][ids]), np.float64)
            inputs = similar[real > 0][..., :n_inputs].reshape(-1, n_inputs)
            inputs = np.pad(inputs, ((0, 0), (0, n_unknown - n_inputs)), constant_values=1.0)
            target = np.asarray(rows["target"][ids], np.float64)[real > 0].reshape(-1)
            products += inputs.T @ inputs
            right += inputs.T @ target
            total, sums = total + target.sum(), sums + inputs.sum(axis=0)
        least = np.full(n_unknown, -np.inf)
        if self._kind in NON_NEGATIVE:
            least[:n_inputs] = least_share * total / np.maximum(sums[:n_inputs], 1e-9)
        solution = _solve(products, right, least=least)
        if self._kind not in WITH_BIAS and self._kind in NON_NEGATIVE and sums @ solution > 0:
            # Without a bias, nothing else would compensate for a count that is too low.
            solution *= total / (sums @ solution)
        bias = float(solution[n_inputs:].sum())  # of one value or, without bias, none
        layer = density_parameters(solution[:n_inputs], bias, kind=self._kind)
        old = trained["density"]
        return {**trained, "density": {n: _placed_like(layer[n], old[n]) for n in old}}

    def describe(self, trained: Tree, rows: Rows) -> dict[str, np.ndarray]:
        """Arrays by which prototypes can be shown without the training images.

        Returns:
          `top_image`, `top_row`, `top_column`, `top_similarity` [K, n]: the most similar
          positions, one per image, best first; `top_patch` [K, n, side, side, C] as the network
          saw them, `top_corner` [K, n, 2] the pixel of the patch at which the position begins;
          `sample` [m, d] processed features of random positions and `sample_density` [m] of the
          target there.
        """
        n = len(rows["image"])
        similar, flat = np.zeros((n, self._size), np.float32), np.zeros((n, self._size), np.int64)
        for ids, real in chunks(n, CHUNK_ROWS):
            best, position = jax.device_get(self._best_of_image(trained, rows["image"][ids]))
            similar[ids[real > 0]], flat[ids[real > 0]] = best[real > 0], position[real > 0]
        top = np.argsort(-similar, axis=0, kind="stable")[: min(N_PATCHES, n)].T
        row, column = np.divmod(np.take_along_axis(flat.T, top, axis=1), rows["image"].shape[2])
        patches = [
            [_patch(rows["source_image"], *at) for at in zip(*triple, strict=True)]
            for triple in zip(top, row, column, strict=True)
        ]
        return {
            "top_image": top.astype(np.int32),
            "top_row": row.astype(np.int32),
            "top_column": column.astype(np.int32),
            "top_similarity": np.take_along_axis(similar.T, top, axis=1),
            "top_patch": np.array([[pixels for pixels, _ in p] for p in patches], np.float32),
            "top_corner": np.array([[corner for _, corner in p] for p in patches], np.int32),
            **self._sample(trained, rows),
        }

    def _sample(self, trained: Tree, rows: Rows) -> dict[str, np.ndarray]:
        n, height, width, _ = rows["image"].shape
        rng = np.random.default_rng(0)
        m = min(SAMPLE_SIZE, n * height * width)
        flat = rng.choice(n * height * width, m, replace=False)
        where = np.unravel_index(flat, (n, height, width))
        # The head sees one position at a time, so any arrangement of positions works.
        features = rows["image"][where].reshape(1, m, 1, -1)
        found = self._processed(trained, features)
        return {
            "sample": np.asarray(found).reshape(m, -1),
            "sample_density": np.asarray(rows["target"][where], np.float32),
        }


def density_parameters(weights: np.ndarray, bias: float, *, kind: str) -> dict[str, jax.Array]:
    """Parameters of `DensityLayer` from its weights [n] and bias."""
    if kind in NON_NEGATIVE:  # The layer passes its kernel through a softplus.
        floored = np.maximum(weights, 1e-8)
        weights = floored + np.log(-np.expm1(-floored))
    kernel = jnp.asarray(weights, jnp.float32).reshape(1, 1, -1, 1)
    return {"kernel": kernel, "bias": jnp.full((1,), bias, jnp.float32)}


def _solve(products: np.ndarray, right: np.ndarray, *, least: np.ndarray) -> np.ndarray:
    """Least squares from its normal equations, no unknown under its `least` [n] of 0 or -inf.

    Unknowns without effect become 0.
    """
    values, vectors = np.linalg.eigh(products)
    kept = values > 1e-12 * max(values.max(), 1e-300)
    if np.isneginf(least).all():
        inverse = np.where(kept, 1.0 / np.where(kept, values, 1.0), 0.0)
        return vectors @ (inverse * (vectors.T @ right))
    root = np.sqrt(np.where(kept, values, 0.0))
    projected = np.where(kept, vectors.T @ right / np.where(kept, root, 1.0), 0.0)
    found = optimize.lsq_linear(root[:, None] * vectors.T, projected, (least, np.inf))
    return np.maximum(found.x, least)


def chunks(n: int, size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Row numbers and a mask (0: repeated to fill the chunk) of chunks of at most `size`."""
    size = min(size, n)
    for start in range(0, n, size):
        rows = np.arange(start, start + size)
        yield np.minimum(rows, n - 1), (rows < n).astype(np.float32)


def _patch(images: jax.Array, image: int, row: int, column: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixels around a position of the feature map, and its corner [2] in this patch.

    At the image's border the patch is moved inside.
    """
    sides = np.array(images.shape[1:3])
    side = min(PATCH_SIDE, *sides)
    corner = np.array([row, column]) * STRIDE
    start = np.clip(corner + STRIDE // 2 - side // 2, 0, sides - side)
    top, left = start
    pixels = np.asarray(images[int(image), top : top + side, left : left + side])
    return pixels, corner - start


def _placed_like(value: jax.Array, like: Any) -> jax.Array:
    return jax.device_put(value, like.sharding) if isinstance(like, jax.Array) else value
