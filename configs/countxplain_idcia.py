"""CountXplain on IDCIA, hippocampal progenitor cells in DAPI (MIDL 2025: MAE 3.42 +- 0.40 over five
splits; the CSRNet it stands on 3.49 +- 0.68; both with ImageNet weights).

    python -m cellcount_jax.main --config=configs/countxplain_idcia.py            # scratch, GPU
    python -m cellcount_jax.main --config=configs/countxplain_idcia.py:imagenet   # as published
    python -m cellcount_jax.main --config=configs/countxplain_idcia.py:quick      # 2 CPU cores

Protocol `countxplain`: 100 train (a tenth of them for validation), 19 test images by seed,
resized to 256x256. The density network is that of csrnet_idcia.py; 8 prototypes, batch 16.
Presets and ablations as in countxplain_vgg.py. Measured figures: docs/results/countxplain.md.
"""

from ml_collections import ConfigDict

from configs import countxplain_vgg, csrnet_idcia


def get_config(preset: str = "") -> ConfigDict:
    """Settings of a preset: "" (from scratch), imagenet, quick or tiny."""
    return countxplain_vgg.on_top_of(
        csrnet_idcia.get_config(preset), preset, n_prototypes=8, batch_size=16
    )
