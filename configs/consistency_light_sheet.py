"""Focal consistency on nuclei of the mouse cortex in light-sheet volumes (Guo et al., MOVI 2022:
one labelled volume, MAE 57.8 with Gaussian, 13.8 with inverse-distance targets, 12.4 with
unlabelled volumes; F1 93.55, 95.21, 95.86 %).

    python -m cellcount_jax.main --config=configs/consistency_light_sheet.py        # a GPU
    python -m cellcount_jax.main --config=configs/consistency_light_sheet.py:quick  # 2 CPU cores
    python -m cellcount_jax.main --config=configs/consistency_light_sheet.py:quick_gaussian

Protocol `consistency`: one labelled training volume, the unlabelled ones, five test volumes.
Where the real set is absent, simulated volumes stand in for it and the results say so. Presets and
switches as in consistency_vgg.py. Measured figures: docs/results/consistency.md.
"""

from ml_collections import ConfigDict

from cellcount_jax import defaults
from configs import common


def get_config(preset: str = "") -> ConfigDict:
    """Settings of a preset, see consistency_vgg.py."""
    config = defaults.consistency(ndim=3)
    config.data.name = "light_sheet"
    config.data.protocol = "consistency"
    config.preprocessing.update(
        {"channels": 1, "normalise": "minmax", "mean": (0.0,), "std": (1.0,)}
    )
    config.model.sigma = (1.0, 2.0, 2.0)  # slices are farther apart than pixels
    return common.consistency_preset(config, preset, quick=quick)


def quick(config: ConfigDict) -> None:
    """A quarter of the width, batch norm, smaller crops: minutes on 2 cores.

    Neither batch norm nor the sensor's own intensity scale makes cells of a blank volume's
    noise, which instance norm and the range of each volume do.
    """
    config.preprocessing.normalise = "dtype"
    config.model.update({"base_channels": 8, "norm": "batch", "target_scale": 10.0})
    config.model.update({"test_time_augmentation": True, "f1_tolerance": 0.003})
    config.model.window = (32, 112, 112)
    config.model.thresholds = (0.1, 0.15, *config.model.thresholds)
    plan = config.stages.consistency
    plan.batch_size.update({"labelled": 1, "unlabelled": 1})
    plan.steps = 600
    plan.eval_every = 50
    plan.crop = (32, 48, 48)
    plan.ema_decay = 0.98
    plan.optimizer.update(defaults.one_cycle(2e-3) | {"weight_decay": 0.0})
