"""A network that is compared with its PyTorch twin, and the options it is built with."""

import dataclasses
from typing import Any

import numpy as np
import optax

from cellcount_jax.methods.base import Stage, Tree, Variables

Arrays = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Case:
    """One network, ready to predict and to train.

    Attributes:
      name: Also in `torch_reference.networks.NETWORKS`.
      stage: Stage of the package's method.
      variables: Variables of the stage.
      tx: Optimizer of the stage.
      images: Images [B, *space, C] to predict on.
      batch: Batch to train on; features, if the stage stores them.
      options: How the twin is built.
      params: Parameters of the twin, flat by path.
      batch_stats: Batch statistics of the twin, flat by path.
      twin_batch: What the twin trains on, channels last.
    """

    name: str
    stage: Stage
    variables: Variables
    tx: optax.GradientTransformation
    images: np.ndarray
    batch: Tree
    options: dict[str, Any]
    params: Arrays
    batch_stats: Arrays
    twin_batch: Arrays

    def twin_arrays(self) -> Arrays:
        """All arrays of the twin, under the names that the worker expects."""
        parts = {
            "params": self.params,
            "batch_stats": self.batch_stats,
            "images": {"image": self.images},
            "batch": self.twin_batch,
        }
        # Stored features may be bfloat16, which NumPy's files do not know.
        return {
            f"{part}/{name}": np.asarray(value, np.float32)
            for part, held in parts.items()
            for name, value in held.items()
        }


@dataclasses.dataclass(frozen=True)
class Settings:
    """Options of a case.

    Attributes:
      batch: Images in a batch; volumes come one by one.
      space: Sides of the images; None: `network_cases.SPACE`.
      width: Multiplier of the channels.
      dtype: Data type of the computation.
      dropout: Dropout of the attention, if there is any; None: the network's own.
    """

    batch: int = 4
    space: tuple[int, ...] | None = None
    width: float = 1.0
    dtype: str = "float32"
    dropout: float | None = None
