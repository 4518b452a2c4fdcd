"""DCL on DCC, Dublin Cell Counting (Zheng et al., MICCAI 2024: MAE 0.8, RMSE 1.3, most likely per
patch; without message passing 1.2 / 1.8; both with ImageNet weights).

    python -m cellcount_jax.main --config=configs/dcl_dcc.py            # from scratch, for a GPU
    python -m cellcount_jax.main --config=configs/dcl_dcc.py:quick      # 2 CPU cores, minutes

Protocol `dcl`: 88 train, 9 validation, 79 test images by seed. The shorter side is padded with
zeros to a square, the square resized to the nearest multiple of 256 and cut in patches of 256x256;
errors are given per patch, to compare with the paper, and per image.
Presets as in dcl_vgg.py.
"""

from ml_collections import ConfigDict

from configs import common, dcl_vgg


def get_config(preset: str = "") -> ConfigDict:
    """Settings of a preset: "" (the paper's, from scratch), imagenet, quick or tiny."""
    config = dcl_vgg.get_config(preset)
    return common.on_dataset(config, "dcc", pad_square=True, resize_to_multiple=256, tile=256)
