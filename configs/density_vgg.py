"""The default counter on the VGG synthetic cells, 100 train and 100 test images.

    python -m cellcount_jax.main --config=configs/density_vgg.py          # a GPU, or an hour on CPU
    python -m cellcount_jax.main --config=configs/density_vgg.py:quick    # 2 CPU cores, 3 minutes
    python -m cellcount_jax.main --config=configs/density_vgg.py:quick --config.data.n_train=10

Protocol `half`: the halves by seed, a tenth of the training half for validation. Best published
MAE on this set: 2.3 (50 training images).
Measured figures: docs/results/density.md.
"""

from ml_collections import ConfigDict

from cellcount_jax import defaults
from configs import common


def get_config(preset: str = "") -> ConfigDict:
    """Settings of a preset: "", quick or tiny."""
    config = defaults.density()
    config.data.name, config.data.protocol = "vgg_cells", "half"
    if not preset:
        config.model.channels = (32, 64, 128, 256)
        config.stages.density.steps = 6000
    return common.apply_preset(config, preset, {"quick": lambda _: None, "tiny": tiny})


def tiny(config: ConfigDict) -> None:
    """For tests: the same program on almost nothing."""
    config.model.channels = (2, 4)
    common.two_steps(config.stages.density)
