"""DCL on ADI, adipocytes in H&E (Zheng et al., MICCAI 2024: MAE 8.4, RMSE 11.7; without message
passing 8.9 / 12.1; both with ImageNet weights).

    python -m cellcount_jax.main --config=configs/dcl_adi.py            # from scratch, for a GPU
    python -m cellcount_jax.main --config=configs/dcl_adi.py:quick      # 2 CPU cores, minutes

Protocol `dcl`: 100 train, 10 validation, 90 test images by seed, resized from 150 to 256.
Presets as in dcl_vgg.py. Measured figures: docs/results/dcl.md.
"""

from ml_collections import ConfigDict

from configs import common, dcl_vgg


def get_config(preset: str = "") -> ConfigDict:
    """Settings of a preset: "" (the paper's, from scratch), imagenet, quick or tiny."""
    return common.on_dataset(dcl_vgg.get_config(preset), "adi", tile=150, resize=256)
