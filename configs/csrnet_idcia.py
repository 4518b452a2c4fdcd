"""CSRNet on IDCIA, hippocampal progenitor cells (DAPI), as CountXplain (MIDL 2025) trains it:
MAE 3.49 +- 0.68 over five splits, with ImageNet weights.

    python -m cellcount_jax.main --config=configs/csrnet_idcia.py            # scratch, for a GPU
    python -m cellcount_jax.main --config=configs/csrnet_idcia.py:imagenet   # as published
    python -m cellcount_jax.main --config=configs/csrnet_idcia.py:quick      # 2 CPU cores, minutes

Protocol `countxplain`: 100 train (a tenth of them for validation), 19 test images by seed,
resized to 256x256. Published recipe: Adam at 7e-5, batch 1, 200 epochs.
Presets as in csrnet_vgg.py. Measured figures: docs/results/csrnet.md.
"""

from ml_collections import ConfigDict

from configs import common, csrnet_vgg


def get_config(preset: str = "") -> ConfigDict:
    """Settings of a preset: "" (from scratch), imagenet, quick or tiny."""
    config = csrnet_vgg.get_config(preset)
    return common.on_dataset(config, "idcia", protocol="countxplain", resize=256)
