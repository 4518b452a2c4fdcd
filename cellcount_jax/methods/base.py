"""A method is an ordered list of stages; a stage is a small record of pure functions.

The training loop knows stages, never a paper's name. `Variables` is what a trained stage leaves
behind and what the next one, a checkpoint or a counter takes.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

Tree = Any
"""A nested dict of arrays."""

Batch = Mapping[str, Mapping[str, jax.Array]]
"""Named streams of image [B, *space, C], target [B, *space], count, mask and index [B]."""

Maps = dict[str, jax.Array]

Decoder = Literal["components", "peaks"]


class Variables(NamedTuple):
    """What a stage needs to predict; arrays only.

    `trained` follows the gradient, `frozen` comes from earlier stages and never changes,
    `model_state` holds batch statistics of the trained part, `extras` small arrays beside them
    (the decoder's threshold, where a prototype comes from).
    """

    trained: Tree
    frozen: Tree
    model_state: Tree
    extras: dict[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class Readout:
    """How named maps become a count and points.

    Attributes:
      count_map: name of the map that counts.
      count: `l1` (sum of absolute values), `integral` (sum), or `components` / `peaks` (number of
        points; always that of `decoder`).
      count_scale: the map's sum is divided by this.
      points_map: name of the map whose components or peaks are the points, None if the method has
        no points.
      decoder: `components` or `peaks`.
      threshold: level of the decoder: absolute for components; for peaks a share of `reference`.
      reference: height of a lone cell's peak in the points map; None takes the map's maximum.
      candidates: pairs of decoder and threshold among which the best on labelled validation (or,
        without them, training) images is taken after training; empty keeps what is set.
      tolerance: of one decoder's thresholds whose F1 is within this of its best, the one that
        finds most nearly the true number of points is taken; 0: the middle one of the best.
      fitted: the best threshold of every decoder among the candidates, once they are fitted.
      calibrate: `count_scale` is multiplied, after training, by what makes the sum of all counts
        of the training images right.
    """

    count_map: str
    count: Literal["l1", "integral", "components", "peaks"] = "integral"
    count_scale: float = 1.0
    points_map: str | None = None
    decoder: Decoder = "peaks"
    threshold: float = 0.5
    reference: float | None = None
    candidates: tuple[tuple[Decoder, float], ...] = ()
    tolerance: float = 0.0
    fitted: tuple[tuple[Decoder, float], ...] = ()
    calibrate: bool = False


@dataclasses.dataclass(frozen=True, eq=False)
class Prototypes:
    """What a stage that counts by similarity to K prototypes tells about them.

    The first `n_cell` prototypes stand for cells, the rest for background. Such a stage predicts
    the maps `similarity` [B, h, w, K], `contribution` [B, h, w, K or n_cell] in cells, and
    `extractor_density` [B, h, w], the density of the network that is explained.

    Attributes:
      n_cell: number of cell prototypes.
      stride: pixels of the network's image per position of its maps.
      vectors: [K, d], exact training features.
      weights: [K] cells per unit of similarity; 0 for those that do not count.
      bias: cells per position of the map.
      before_projection: variables as they were before the last projection.
      provenance: `image`, `row`, `column`, `distance` [K] of the last projection; `top_image`,
        `top_similarity` [K, n], `top_patch` [K, n, side, side, C] and `top_corner` [K, n, 2] of
        the most similar training positions; `sample` [m, d] and `sample_density` [m] of random
        training features.
    """

    n_cell: int
    stride: int
    vectors: np.ndarray
    weights: np.ndarray
    bias: float
    before_projection: Variables
    provenance: Mapping[str, np.ndarray]

    @property
    def names(self) -> list[str]:
        """A name for each prototype."""
        cells = [f"cell {i + 1}" for i in range(self.n_cell)]
        return cells + [f"background {i + 1}" for i in range(len(self.vectors) - self.n_cell)]


class InitFn(Protocol):
    """Fresh variables; `previous` holds the variables of the stages before, by name."""

    def __call__(
        self, key: jax.Array, batch: Batch, previous: Mapping[str, Variables]
    ) -> Variables: ...


class LossFn(Protocol):
    """Scalar loss, new model state, and metrics to log."""

    def __call__(
        self,
        trained: Tree,
        frozen: Tree,
        model_state: Tree,
        batch: Batch,
        key: jax.Array,
        step: jax.Array,
    ) -> tuple[jax.Array, tuple[Tree, dict[str, jax.Array]]]: ...


@dataclasses.dataclass(frozen=True)
class Stage:
    """One part of a method that is trained on its own.

    Attributes:
      name: unique within the method; names the checkpoint folder.
      init: see `InitFn`.
      loss: see `LossFn`; differentiated with respect to `trained` alone.
      predict: variables and images [B, *space, C] -> named maps, in evaluation mode.
      readout: how the maps count.
      select: `mae` or `f1`: what the validation part chooses the checkpoint by.
      stride: sides of an image given to `predict` must be multiples of it.
      halo: context in pixels that a tile needs on each side; None: the network looks at the whole
        image at once and counts in a fixed `window`.
      window: sides of the fixed window of a network with global operations (one number: the same
        along every axis), else None.
      largest: longest side of a window where the network can be cut anywhere; None: see
        `inference.tiling.LARGEST`. For networks so small that longer windows fit into memory.
      target: dots and space shape -> the map that the loss compares with, on the host, once per
        image; None: the loss needs counts alone.
      prepare: data streams -> data streams, once before the first step (cached features).
      between_epochs: (variables, data, epoch) -> variables.
      finish: (variables, data) -> variables, on the chosen checkpoint.
      explain: trained variables -> the prototypes that the count is made of; None: the stage
        cannot be explained. `explanation` builds local explanations and their evaluation from it
        alone, so that a stage that offers this is explained, evaluated and reported without its
        name being known there.
    """

    name: str
    init: InitFn
    loss: LossFn
    predict: Callable[[Variables, jax.Array], Maps]
    readout: Readout
    stride: int
    select: Literal["mae", "f1"] = "mae"
    halo: int | None = None
    window: int | tuple[int, ...] | None = None
    largest: int | None = None
    target: Callable[[np.ndarray, Sequence[int]], np.ndarray] | None = None
    prepare: Callable[[Tree, Tree], Tree] | None = None
    between_epochs: Callable[[Variables, Tree, int], Variables] | None = None
    finish: Callable[[Variables, Tree], Variables] | None = None
    explain: Callable[[Variables], Prototypes] | None = None


def read_count(maps: Maps, readout: Readout) -> jax.Array | None:
    """Count per image [B] float32 of the readouts that sum a map; None where points count."""
    if readout.count not in ("l1", "integral"):
        return None
    values = maps[readout.count_map].astype(jnp.float32)
    values = jnp.abs(values) if readout.count == "l1" else values
    return values.sum(axis=tuple(range(1, values.ndim))) / readout.count_scale


def forward_in_training(
    network: nn.Module, trained: Tree, model_state: Tree, images: jax.Array, mask: jax.Array
) -> tuple[Any, Tree]:
    """Output of a network with batch statistics, and its model state after this batch.

    Args:
      network: called with `train` and `mask`.
      trained: its parameters.
      model_state: with its `batch_stats`.
      images: [B, *space, C].
      mask: [B], 0 for padding rows.
    """
    output, updates = network.apply(
        {"params": trained, **model_state}, images, train=True, mask=mask, mutable=["batch_stats"]
    )
    return output, {**model_state, **updates}


def masked_mean(values: jax.Array, mask: jax.Array) -> jax.Array:
    """Mean over real rows; padding rows (mask 0) do not count."""
    return (values * mask).sum() / jnp.maximum(mask.sum(), 1.0)
