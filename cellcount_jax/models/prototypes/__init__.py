"""Prototypes of CountXplain (MIDL 2025): distances, similarity, the head, and projection.

K prototypes of d channels; the first `n_cell` (in the head K / 2) stand for cells, the rest for
background. Images only: feature maps are [B, h, w, d].
"""

from cellcount_jax.models.prototypes.distances import similarity, squared_distances
from cellcount_jax.models.prototypes.head import PrototypeHead
from cellcount_jax.models.prototypes.projection import project

__all__ = ["PrototypeHead", "project", "similarity", "squared_distances"]
