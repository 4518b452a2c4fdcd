"""CountXplain on DCC, Dublin Cell Counting (MIDL 2025: MAE 2.59 +- 0.23 over five splits; the
CSRNet it stands on 2.61 +- 0.27; both with ImageNet weights).

    python -m cellcount_jax.main --config=configs/countxplain_dcc.py            # from scratch, GPU
    python -m cellcount_jax.main --config=configs/countxplain_dcc.py:imagenet   # as published
    python -m cellcount_jax.main --config=configs/countxplain_dcc.py:quick      # 2 CPU cores

Protocol `countxplain`: 100 train (a tenth of them for validation), 76 test images by seed,
resized to 256x256. The density network is that of csrnet_dcc.py; 6 prototypes, batch 32.
Presets and ablations as in countxplain_vgg.py. Measured figures: docs/results/countxplain.md.
"""

from ml_collections import ConfigDict

from configs import countxplain_vgg, csrnet_dcc


def get_config(preset: str = "") -> ConfigDict:
    """Settings of a preset: "" (from scratch), imagenet, quick or tiny."""
    return countxplain_vgg.on_top_of(csrnet_dcc.get_config(preset), preset)
