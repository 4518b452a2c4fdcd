"""CSRNet on MBM, bone marrow in H&E (Li et al., CVPR 2018; in Zheng et al., MICCAI 2024: MAE 2.2,
RMSE 2.9, most likely per patch), the network that CountXplain explains.

    python -m cellcount_jax.main --config=configs/csrnet_mbm.py            # from scratch, for a GPU
    python -m cellcount_jax.main --config=configs/csrnet_mbm.py:quick      # 2 CPU cores, minutes

Protocol `dcl`: 22 train, 2 validation, 20 test images of 600x600 by seed. Each image is cut in
four patches of 300x300 that are resized to 256x256; errors are given per patch and per image.
Presets as in csrnet_vgg.py. Measured figures: docs/results/csrnet.md.
"""

from ml_collections import ConfigDict

from configs import common, csrnet_vgg


def get_config(preset: str = "") -> ConfigDict:
    """Settings of a preset: "" (from scratch), imagenet, quick or tiny."""
    return common.on_dataset(csrnet_vgg.get_config(preset), "mbm", tile=300, resize=256)
