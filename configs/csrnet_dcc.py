"""CSRNet on DCC, Dublin Cell Counting, as CountXplain (MIDL 2025) trains it: MAE 2.61 +- 0.27 over
five splits, with ImageNet weights.

    python -m cellcount_jax.main --config=configs/csrnet_dcc.py            # from scratch, for a GPU
    python -m cellcount_jax.main --config=configs/csrnet_dcc.py:imagenet   # as published
    python -m cellcount_jax.main --config=configs/csrnet_dcc.py:quick      # 2 CPU cores, minutes

Protocol `countxplain`: 100 train (a tenth of them for validation), 76 test images by seed,
resized to 256x256. Published recipe: Adam at 1e-6, batch 1, 200 epochs.
Presets as in csrnet_vgg.py. Measured figures: docs/results/csrnet.md.
"""

from ml_collections import ConfigDict

from configs import common, csrnet_vgg


def get_config(preset: str = "") -> ConfigDict:
    """Settings of a preset: "" (from scratch), imagenet, quick or tiny."""
    config = csrnet_vgg.get_config(preset)
    if preset == "imagenet":
        config.stages.csrnet.optimizer.learning_rate = 1e-6
    return common.on_dataset(config, "dcc", protocol="countxplain", resize=256)
