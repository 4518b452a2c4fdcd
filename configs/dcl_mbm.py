"""DCL on MBM, bone marrow in H&E (Zheng et al., MICCAI 2024: MAE 1.4, RMSE 2.1, most likely per
patch; without message passing 1.9 / 2.6; both with ImageNet weights).

    python -m cellcount_jax.main --config=configs/dcl_mbm.py            # from scratch, for a GPU
    python -m cellcount_jax.main --config=configs/dcl_mbm.py:quick      # 2 CPU cores, minutes

Protocol `dcl`: 22 train, 2 validation, 20 test images of 600x600 by seed. Each image is cut in
four patches of 300x300 that are resized to 256x256; errors are given per patch, to compare with
the paper, and per image (the sum of its patches).
Presets as in dcl_vgg.py. Measured figures: docs/results/dcl.md.
"""

from ml_collections import ConfigDict

from configs import common, dcl_vgg


def get_config(preset: str = "") -> ConfigDict:
    """Settings of a preset: "" (the paper's, from scratch), imagenet, quick or tiny."""
    return common.on_dataset(dcl_vgg.get_config(preset), "mbm", tile=300, resize=256)
