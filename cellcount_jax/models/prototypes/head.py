"""The prototype head: from feature maps to a density that adds up from similarities."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.nn.initializers import Initializer

from cellcount_jax.models.prototypes.distances import contrasted, similarity, squared_distances

DENSITY_INPUTS = ("cell_half", "positive", "all", "additive")

NON_NEGATIVE = ("positive", "additive")
"""Density layers whose weights are softplus of their kernel."""

WITH_BIAS = ("cell_half", "positive")

_NON_NEGATIVE_START = 0.1
"""Initial sum of non-negative weights: the density starts at the order of a true one."""


class PrototypeHead(nn.Module):
    """Density from the similarity of feature vectors to prototypes, parameters in float32.

    Attributes:
      n_prototypes: K, even; half for cells, half for background.
      density_inputs: Inputs of the 1x1 density layer: "cell_half" the cell prototypes, with bias
        (released code); "positive" the same with non-negative weights, so that a
        prototype cannot count cells by their absence; "all" all K, no bias (paper); "additive" as
        "positive" without bias, so that contributions are shares of the count.
      channels: D, of the space in which prototypes live; None: as many as the features have.
      contrast: Similarities are those beyond the most similar prototype of the other group, see
        `contrasted`.
    """

    n_prototypes: int = 6
    density_inputs: str = "cell_half"
    channels: int | None = None
    contrast: bool = False

    @nn.compact
    def __call__(self, features: jax.Array) -> dict[str, jax.Array]:
        """Maps of a batch of feature maps.

        Args:
          features: Features of the frozen extractor, [B, h, w, C].

        Returns:
          `processed` [B, h, w, d] in (0, 1), the space in which prototypes live; `distances`
          (squared) and `similarity` [B, h, w, K]; `contribution` [B, h, w, K / 2, or K for "all"],
          weight times similarity, in cells per position; `density` [B, h, w], their sum plus the
          bias where there is one. All float32.

        Raises:
          ValueError: K odd or below 2, an unknown option, or feature maps of a volume.
        """
        _check_head(self.n_prototypes, self.density_inputs, features.shape)
        fan_in = features.shape[-1]
        channels = self.channels or fan_in
        processed = nn.sigmoid(
            nn.Conv(
                channels,
                (1, 1),
                kernel_init=_uniform(fan_in),
                bias_init=_uniform(fan_in),
                precision=jax.lax.Precision.HIGHEST,
                name="process",
            )(features.astype(jnp.float32))
        )
        shape = (self.n_prototypes, channels)
        prototypes = self.param("prototypes", nn.initializers.uniform(1.0), shape)
        distances = squared_distances(processed, prototypes)
        similar = similarity(distances)
        if self.contrast:
            similar = contrasted(similar, n_cell=self.n_prototypes // 2)
        n_inputs = self.n_prototypes // (1 if self.density_inputs == "all" else 2)
        weight, bias = DensityLayer(n_inputs, self.density_inputs, name="density")()
        contribution = similar[..., :n_inputs] * weight.reshape(1, 1, 1, -1)
        return {
            "processed": processed,
            "distances": distances,
            "similarity": similar,
            "contribution": contribution,
            "density": contribution.sum(axis=-1) + bias,
        }


class DensityLayer(nn.Module):
    """The 1x1 density layer, kept apart in weights and bias so that contributions can be read.

    Attributes:
      n_inputs: Number of prototypes that count.
      kind: One of `DENSITY_INPUTS`.
    """

    n_inputs: int
    kind: str

    @nn.compact
    def __call__(self) -> tuple[jax.Array, jax.Array]:
        """Weights [n_inputs] and bias, a scalar (0 where the layer has none)."""
        shape = (1, 1, self.n_inputs, 1)
        if self.kind in NON_NEGATIVE:
            start = float(np.log(np.expm1(_NON_NEGATIVE_START / self.n_inputs)))
            kernel = nn.softplus(self.param("kernel", nn.initializers.constant(start), shape))
        else:
            kernel = self.param("kernel", _uniform(self.n_inputs), shape)
        if self.kind in WITH_BIAS:
            bias = self.param("bias", _uniform(self.n_inputs), (1,))[0]
        else:
            bias = jnp.zeros(())
        return kernel.reshape(-1), bias


def _uniform(fan_in: int) -> Initializer:
    """Uniform in +-1 / sqrt(fan_in), the default of PyTorch's convolutions and their biases."""
    bound = float(fan_in) ** -0.5

    def init(key: jax.Array, shape, dtype=jnp.float32, out_sharding=None) -> jax.Array:
        del out_sharding
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


def _check_head(n_prototypes: int, density_inputs: str, shape: tuple[int, ...]) -> None:
    if n_prototypes < 2 or n_prototypes % 2:
        raise ValueError(
            f"n_prototypes is {n_prototypes}; it must be even and at least 2, "
            "half for cells and half for background"
        )
    if density_inputs not in DENSITY_INPUTS:
        raise ValueError(f"density_inputs {density_inputs!r} is not one of {DENSITY_INPUTS}")
    if len(shape) != 4:
        raise ValueError(f"prototypes work on feature maps [B, h, w, d] of images, not on {shape}")
