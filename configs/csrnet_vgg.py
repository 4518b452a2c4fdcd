"""CSRNet on the VGG synthetic cells (Li et al., CVPR 2018; in Zheng et al., MICCAI 2024: MAE 7.9,
RMSE 10.2), the network that CountXplain explains.

    python -m cellcount_jax.main --config=configs/csrnet_vgg.py            # from scratch, for a GPU
    python -m cellcount_jax.main --config=configs/csrnet_vgg.py:imagenet   # as published
    python -m cellcount_jax.main --config=configs/csrnet_vgg.py:quick      # 2 CPU cores, minutes
    python -m cellcount_jax.main --config=configs/csrnet_vgg.py:tiny       # seconds; learns nothing

Protocol `dcl`: 100 train, 10 validation, 90 test images by seed; the checkpoint is chosen on
validation, the test part is opened once. From scratch the network gets He initialisation, batch
norm, flips and a cosine; `imagenet` is the recipe of CountXplain (MIDL 2025): batch 1, constant
Adam, no augmentation, 200 epochs. The Gaussians' sigma is not published: 4 pixels at a side of 256;
`--config.model.adaptive_sigma=True` takes 0.3 times the distance to the three nearest dots.
Measured figures: docs/results/csrnet.md.
"""

from ml_collections import ConfigDict

from cellcount_jax import defaults, short_trainings
from configs import common


def get_config(preset: str = "") -> ConfigDict:
    """Settings of a preset: "" (from scratch), imagenet, quick or tiny."""
    presets = {"imagenet": imagenet, "quick": short_trainings.short_csrnet, "tiny": tiny}
    return common.apply_preset(scratch(), preset, presets)


def scratch() -> ConfigDict:
    """The full network without imported weights."""
    config = defaults.csrnet()
    config.data.name, config.data.protocol = "vgg_cells", "dcl"
    return config


def imagenet(config: ConfigDict) -> None:
    """As published: ImageNet weights in front (a file's path may be given instead)."""
    config.model.update(
        {
            "batch_norm": False,
            "kernel_init": "gaussian",
            "pretrained": "imagenet",
            "start_at_mean": False,
        }
    )
    config.stages.csrnet = defaults.stage(
        epochs=200, flips=False, optimizer={"learning_rate": 7e-5, "schedule": "constant"}
    )
    config.stages.csrnet.batch_size.labelled = 1


def tiny(config: ConfigDict) -> None:
    """For tests: the same program on almost nothing."""
    short_trainings.short_csrnet(config)
    config.model.width = 1 / 32
    common.two_steps(config.stages.csrnet)
