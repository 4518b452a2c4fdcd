"""A method is an ordered list of stages; a stage is a small record of pure functions.

The trainer knows stages, never a method's name. `Variables` is what a trained stage leaves behind
and what the next one, a checkpoint or a counter takes.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import numpy as np

Tree = Any
"""A nested dict of arrays."""

Batch = Mapping[str, Mapping[str, jax.Array]]
"""Named streams of image [B, *space, C], target [B, *space], count, mask and index [B]."""

Maps = dict[str, jax.Array]

MakeTarget = Callable[[np.ndarray, Sequence[int]], np.ndarray]
"""A function from dots and space shape to a map."""

Decoder = Literal["components", "peaks"]


class Variables(NamedTuple):
    """What a stage needs to predict; arrays only.

    `trained` follows the gradient, `frozen` comes from earlier stages and never changes,
    `model_state` holds batch statistics of the trained part, `extras` small arrays beside them
    (the decoder's threshold, the origin of a prototype).
    """

    trained: Tree
    frozen: Tree
    model_state: Tree
    extras: dict[str, jax.Array]

    @classmethod
    def from_tree(cls, tree: dict[str, Any]) -> "Variables":
        """Variables from the nested dicts of a checkpoint, which leaves empty dicts out."""
        return cls(*(tree.get(name) or {} for name in cls._fields))


@dataclasses.dataclass(frozen=True)
class Readout:
    """How named maps become a count and points.

    Attributes:
      count_map: Name of the map that counts.
      count: `l1` (sum of absolute values), `integral` (sum), or `components` / `peaks` (number of
        points; always that of `decoder`).
      count_scale: The map's sum is divided by this.
      points_map: Name of the map whose components or peaks are the points, None if the method has
        no points.
      decoder: `components` or `peaks`.
      threshold: Level of the decoder: absolute for components; for peaks a fraction of
        `single_cell_peak`.
      single_cell_peak: Height of an isolated cell's peak in the points map; None takes the map's
        maximum.
      candidates: Pairs of decoder and threshold; after training, the best on labelled validation
        (or, without them, training) images is chosen. Empty: what is set is kept.
      f1_tolerance: Among a decoder's thresholds whose F1 is within this of its best, the one that
        gives the number of points closest to the true one is taken; 0: the middle of the best.
      fitted: The best threshold of every decoder among the candidates, once they are fitted.
      calibrate: Whether to rescale `count_scale` after training so that the total count of the
        training images is right.
    """

    count_map: str
    count: Literal["l1", "integral", "components", "peaks"] = "integral"
    count_scale: float = 1.0
    points_map: str | None = None
    decoder: Decoder = "peaks"
    threshold: float = 0.5
    single_cell_peak: float | None = None
    candidates: tuple[tuple[Decoder, float], ...] = ()
    f1_tolerance: float = 0.0
    fitted: tuple[tuple[Decoder, float], ...] = ()
    calibrate: bool = False


@dataclasses.dataclass(frozen=True, eq=False)
class Prototypes:
    """What a stage that counts by similarity to K prototypes reports about them.

    The first `n_cell` prototypes stand for cells, the rest for background. Such a stage predicts
    the maps `similarity` [B, h, w, K], `contribution` [B, h, w, K or n_cell] in cells, and
    `extractor_density` [B, h, w], the density of the network that is explained.

    Attributes:
      n_cell: Number of cell prototypes.
      stride: Pixels of the network's image per position of its maps.
      vectors: Exact training features, [K, d].
      weights: Cells per unit of similarity, [K]; 0 for prototypes that do not count.
      bias: Cells per position of the map.
      before_projection: Variables as they were before the last projection.
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


InitFn = Callable[[jax.Array, Batch, Mapping[str, Variables]], Variables]
"""(key, batch, variables of the stages before by name) -> initial variables."""


class StepInput(NamedTuple):
    """Inputs of the loss at one step, besides the trained variables.

    Attributes:
      batch: Batch of every stream of the plan.
      key: Random key of this step.
      step: Number of steps done, int32.
      frozen: Variables of earlier stages.
      model_state: State of the trained part before this step.
      average: Moving averages of (trained, model_state) before this step; None without `ema_decay`.
    """

    batch: Batch
    key: jax.Array
    step: jax.Array
    frozen: Tree
    model_state: Tree
    average: tuple[Tree, Tree] | None = None


LossResult = tuple[jax.Array, tuple[Tree, dict[str, jax.Array]]]
"""Scalar loss, new model state, and metrics to log."""


@dataclasses.dataclass(frozen=True)
class Stage:
    """One part of a method that is trained on its own.

    Attributes:
      name: Unique within the method; names the checkpoint folder.
      init: See `InitFn`.
      loss: (trained, `StepInput`) -> `LossResult`; differentiated with respect to `trained`.
      predict: Variables and images [B, *space, C] -> named maps, in evaluation mode.
      readout: How the maps count.
      stride: Sides of an image given to `predict` must be multiples of it.
      select: Validation metric that chooses the checkpoint: `mae` or `f1`.
      halo: Context in pixels that a tile needs on each side; None: the network has
        global operations and counts in a fixed `window`.
      window: Sides of the fixed window of a network with global operations (one number: the same
        along every axis), else None. If both this and the halo are None, the window is the size
        of the images that the stage, or the first such stage of its method, is trained on.
      max_window: Longest side of a window if images can be cut anywhere; None: see
        `inference.tiling.MAX_WINDOW`. For networks so small that longer windows fit into memory.
      target: Makes the map that the loss compares with from dots and space shape, on the host, once
        per image; None: the loss needs only counts.
      weight: Makes the map that multiplies the loss, from the places marked as no cell and the
        space shape; None: such places are not used.
      prepare: Data streams -> data streams, once before the first step (cached features).
      between_epochs: (variables, data, epoch) -> variables.
      finish: (variables, data) -> variables, on the chosen checkpoint.
      explain: Trained variables -> the prototypes that the count is made of; None: the stage
        cannot be explained. Explanations, their evaluation and their report are built from it
        alone, so that no other folder needs to know the method.
    """

    name: str
    init: InitFn
    loss: Callable[[Tree, StepInput], LossResult]
    predict: Callable[[Variables, jax.Array], Maps]
    readout: Readout
    stride: int
    select: Literal["mae", "f1"] = "mae"
    halo: int | None = None
    window: int | tuple[int, ...] | None = None
    max_window: int | None = None
    target: MakeTarget | None = None
    weight: MakeTarget | None = None
    prepare: Callable[[Tree, Tree], Tree] | None = None
    between_epochs: Callable[[Variables, Tree, int], Variables] | None = None
    finish: Callable[[Variables, Tree], Variables] | None = None
    explain: Callable[[Variables], Prototypes] | None = None


def forward_in_training(
    network: nn.Module, trained: Tree, model_state: Tree, images: jax.Array, mask: jax.Array
) -> tuple[Any, Tree]:
    """Output of a network with batch statistics, and its model state after this batch.

    Args:
      network: Called with `train` and `mask`.
      trained: Its parameters.
      model_state: State with its `batch_stats`.
      images: [B, *space, C].
      mask: [B], 0 for padding rows.
    """
    output, updates = network.apply(
        {"params": trained, **model_state}, images, train=True, mask=mask, mutable=["batch_stats"]
    )
    return output, {**model_state, **updates}


def single_cell_peak(target: MakeTarget, shape: Sequence[int]) -> float:
    """Peak height of the map that `target` makes from one cell in the middle of an image.

    Args:
      target: Makes a map from dots.
      shape: Shape [*space] of the image.
    """
    centre = tuple(side // 2 for side in shape)
    return float(target(np.array([centre], np.float32), shape)[centre])
