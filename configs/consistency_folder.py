"""Focal consistency on a lab's own folder: few images with dots, many without.

    python -m cellcount_jax.main --config=configs/consistency_folder.py:quick \
        --config.data.folder=MY_IMAGES

Protocol: the images with dots (see docs/files.md for the layout and `split.csv`) are divided by
seed, those without are the unlabelled ones. Count images, MAE and F1 of the test part are
written, or those of the training images, with a warning, where there are too few for a test.
Give `--config.radius` in pixels, about half a cell's diameter; the preset `quick_volumes` (or
`volumes`) is for 3-D data.
Presets and switches as in consistency_vgg.py.
"""

from ml_collections import ConfigDict

from cellcount_jax import defaults
from configs import common, consistency_light_sheet, consistency_vgg


def get_config(preset: str = "") -> ConfigDict:
    """Settings of a preset, see consistency_vgg.py; the part `volumes` is for 3-D data."""
    parts = preset.split("_")
    ndim = 3 if "volumes" in parts else 2
    config = defaults.consistency(ndim=ndim)
    config.model.standardise = False
    preset = "_".join(p for p in parts if p != "volumes")
    config = common.consistency_preset(config, preset, quick=quick)
    config.preprocessing.update(
        {"channels": 1, "normalise": "percentile", "mean": (0.3,), "std": (0.25,)}
    )
    return config


def quick(config: ConfigDict) -> None:
    """That of the published sets, with instance norm: however many images there are, it need not
    see all of them at once when training ends."""
    ndim = len(config.model.window)
    (consistency_vgg.quick if ndim == 2 else consistency_light_sheet.quick)(config)
    config.model.norm = "instance"
