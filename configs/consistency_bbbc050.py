"""Focal consistency on mouse embryos, BBBC050, whole embryos kept apart (Guo et al., MOVI 2022,
publish no MAE for this set; for theirs see consistency_light_sheet.py).

    python -m cellcount_jax.main --config=configs/consistency_bbbc050.py          # a GPU
    python -m cellcount_jax.main --config=configs/consistency_bbbc050.py:quick    # 2 CPU cores
    python -m cellcount_jax.main --config=configs/consistency_bbbc050.py:quick_supervised

Protocol `few_labels`: eight embryos to train on, of which the volume with most nuclei keeps its
labels, three embryos to test. Distances are measured in micrometres (voxels of 1.75 x 0.8 x 0.8;
`quick` halves the pixels in the plane), in units of the pixel in the plane. Presets and switches
as in consistency_vgg.py. Measured figures: docs/results/consistency.md.
"""

from ml_collections import ConfigDict

from cellcount_jax import defaults
from configs import common, consistency_light_sheet


def get_config(preset: str = "") -> ConfigDict:
    """Settings of a preset, see consistency_vgg.py."""
    config = defaults.consistency(ndim=3)
    config.data.name = "bbbc050"
    config.data.protocol = "few_labels"
    config.radius = 8.0  # pixels in the plane; a nucleus is about 18 across
    config.preprocessing.update(
        {"channels": 1, "normalise": "minmax", "mean": (0.0,), "std": (1.0,)}
    )
    config.model.spacing = (1.75, 0.8, 0.8)
    config.model.sigma = (1.83, 4.0, 4.0)
    config.model.window = (48, 128, 128)
    config.stages.consistency.crop = (48, 112, 112)
    return common.consistency_preset(config, preset, quick=quick)


def quick(config: ConfigDict) -> None:
    """A quarter of the width, half the pixels in the plane, smaller crops: minutes on 2 cores."""
    consistency_light_sheet.quick(config)
    config.model.standardise = False  # an embryo fills one volume more than another
    config.preprocessing.update({"normalise": "percentile", "mean": (0.3,), "std": (0.25,)})
    config.data.voxel_size = config.model.spacing = (1.75, 1.6, 1.6)
    config.radius = 4.0
    config.model.sigma = (1.37, 1.5, 1.5)
    config.model.window = (56, 72, 72)
    config.stages.consistency.update({"crop": (40, 48, 48), "steps": 300})
    config.consistency.peak_threshold = 0.1  # chosen on embryos whose labels were held back
