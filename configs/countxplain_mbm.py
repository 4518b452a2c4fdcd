"""CountXplain on MBM, bone marrow in H&E (MIDL 2025; no MAE is published for this set; on two
others CountXplain and the CSRNet that it stands on differ by 0.02 and 0.07).

    python -m cellcount_jax.main --config=configs/countxplain_mbm.py          # for a GPU
    python -m cellcount_jax.main --config=configs/countxplain_mbm.py:quick    # 2 CPU cores, minutes

Protocol `dcl`: 22 train, 2 validation, 20 test images of 600x600 by seed, each cut in four
patches of 300x300 that are resized to 256x256. The density network is that of csrnet_mbm.py, preset
for preset. Presets and ablations as in countxplain_vgg.py.
Measured figures: docs/results/countxplain.md.
"""

from ml_collections import ConfigDict

from cellcount_jax import short_trainings
from configs import countxplain_vgg, csrnet_mbm


def get_config(preset: str = "") -> ConfigDict:
    """Settings of a preset: "" (from scratch), imagenet, quick or tiny."""
    config = countxplain_vgg.on_top_of(csrnet_mbm.get_config(preset), preset)
    if preset == "quick":
        # Nuclei of bone marrow differ, so that each prototype can stand for a kind of its own.
        short_trainings.kept_apart(config)
    return config
