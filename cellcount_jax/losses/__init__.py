"""Losses of the counting methods: pure functions of arrays, keyword options, no config.

Everything is computed and returned in float32, whatever the dtype of the inputs. `mask` [B] is 1
for real images and 0 for padding rows.
"""

from cellcount_jax.losses.consistency import consistency_ramp, focal_consistency, focal_weight
from cellcount_jax.losses.count import count_l1
from cellcount_jax.losses.density import density_mse
from cellcount_jax.losses.prototypes import (
    prototype_diversity,
    prototype_separation,
    prototype_to_feature,
    prototype_to_peaks,
)

__all__ = [
    "consistency_ramp",
    "count_l1",
    "density_mse",
    "focal_consistency",
    "focal_weight",
    "prototype_diversity",
    "prototype_separation",
    "prototype_to_feature",
    "prototype_to_peaks",
]
