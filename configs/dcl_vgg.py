"""DCL on the VGG synthetic cells (Zheng et al., MICCAI 2024: MAE 4.1, RMSE 5.9; without message
passing 5.0 / 6.8; both with ImageNet weights).

    python -m cellcount_jax.main --config=configs/dcl_vgg.py              # from scratch, for a GPU
    python -m cellcount_jax.main --config=configs/dcl_vgg.py:imagenet     # as published
    python -m cellcount_jax.main --config=configs/dcl_vgg.py:quick        # 2 CPU cores, minutes
    python -m cellcount_jax.main --config=configs/dcl_vgg.py:counts_only  # the same without dots
    python -m cellcount_jax.main --config=configs/dcl_vgg.py:tiny         # seconds; learns nothing

Protocol `dcl`: 100 train, 10 validation, 90 test images by seed; the checkpoint and the
localizer's threshold are chosen on validation, the test part is opened once. The paper gives
neither restarts nor epochs: 10 epochs, doubling, 310 in all, down to 1e-6.
Without message passing: `--config.model.message_passing=False`.
Measured figures: docs/results/dcl.md.
"""

from ml_collections import ConfigDict, config_dict

from cellcount_jax import defaults, short_trainings
from configs import common


def get_config(preset: str = "") -> ConfigDict:
    """Settings of a preset: "" (the paper's, from scratch), imagenet, vgg16, quick,
    counts_only, or tiny and tiny_pretrained for tests."""
    presets = {
        "imagenet": imagenet,
        "vgg16": vgg16,
        "quick": quick,
        "counts_only": counts_only,
        "tiny": tiny,
        "tiny_pretrained": tiny_pretrained,
    }
    return common.apply_preset(paper(), preset, presets)


def paper() -> ConfigDict:
    """The published setting, but from scratch."""
    model = {
        "depth": 19,
        "width": 1.0,
        "batch_norm": False,
        "pretrained": config_dict.placeholder(str),
        "start_at_mean": True,
        "message_passing": True,
        "n_samples": 9,
        "calibrate": False,  # counts are scaled so that those of all training images sum right
    }
    pretrain = {"enabled": False, "sigma": 4.0, "target_scale": 1.0}
    localizer = {
        "enabled": True,
        "channels": (64, 128, 256, 512, 1024),
        "sigma": 2.0,
        "target_scale": 100.0,
        "thresholds": defaults.THRESHOLDS,
        "coarse": True,  # False: the localizer sees the image alone
        "test_time_augmentation": False,  # mean over mirror images and quarter turns
        "unsharp_sigma": config_dict.placeholder(float),  # pixels, see methods.postprocess
    }
    plans = {name: defaults.stage(epochs=310, eval_every=10) for name in ("counter", "localizer")}
    config = defaults.run("dcl", model=model, pretrain=pretrain, localizer=localizer, stages=plans)
    config.data.name, config.data.protocol = "vgg_cells", "dcl"
    return config


def imagenet(config: ConfigDict) -> None:
    """Starts the backbone from ImageNet weights (a file's path may be given instead)."""
    config.model.pretrained = "imagenet"
    config.model.start_at_mean = False


def vgg16(config: ConfigDict) -> None:
    """Full width of VGG-16 from ImageNet weights: hours on 2 cores, minutes on a GPU."""
    config.model.depth = 16
    config.model.pretrained = "oxford"
    config.localizer.sigma = 1.0
    rates = {"message_passing": 20.0}
    config.stages.counter = defaults.stage(
        steps=1300,
        eval_every=5,
        ema_decay=0.98,
        mosaic=0.5,
        optimizer={**defaults.one_cycle(1e-4), "rates": rates},
    )
    config.stages.localizer = defaults.stage(
        steps=1000, eval_every=10, ema_decay=0.98, optimizer=defaults.one_cycle(1e-3)
    )


def quick(config: ConfigDict) -> None:
    """An eighth of VGG-19's width with batch norm, which learns the density of the training dots
    first, then their number; a small UNet: minutes on 2 cores.

    The map has a position for 8 pixels of features that have one for 16, so that the density it
    learns first is a wide one; on crops, of which there are several for the time of an image.
    """
    config.preprocessing.mean = config.preprocessing.std = None
    config.model.update({"width": 0.125, "batch_norm": True, "calibrate": True})
    config.pretrain.update({"enabled": True, "sigma": 8.0})
    config.stages.pretrain = defaults.stage(
        steps=2000,
        eval_every=40,
        select="last",
        ema_decay=0.98,
        crop=(128, 128),
        optimizer=defaults.one_cycle(2e-3),
    )
    rates = {"message_passing": 20.0}
    config.stages.counter = defaults.stage(
        steps=150,
        eval_every=6,
        select="last",
        ema_decay=0.98,
        mosaic=0.5,
        optimizer={**defaults.one_cycle(1e-4), "rates": rates},
    )
    _small_localizer(config)
    config.localizer.test_time_augmentation = True
    config.localizer.unsharp_sigma = 0.6
    config.localizer.thresholds = short_trainings.UNSHARP_THRESHOLDS


def counts_only(config: ConfigDict) -> None:
    """An eighth of VGG-19's width from scratch, whose counter learns from counts alone, as in the
    paper: minutes on 2 cores, and a larger error than that of `quick`."""
    config.model.width = 0.125
    config.stages.counter = defaults.stage(
        epochs=75, eval_every=5, ema_decay=0.98, optimizer=defaults.one_cycle(1e-3)
    )
    _small_localizer(config)


def _small_localizer(config: ConfigDict) -> None:
    config.localizer.channels = (8, 16, 32, 64)
    config.localizer.sigma = 1.0
    config.stages.localizer = defaults.stage(
        steps=500, eval_every=8, ema_decay=0.98, crop=(128, 128), optimizer=defaults.one_cycle(2e-3)
    )


def tiny(config: ConfigDict) -> None:
    """For tests: `counts_only` on almost nothing."""
    counts_only(config)
    _shrink(config)


def tiny_pretrained(config: ConfigDict) -> None:
    """For tests: `quick` on almost nothing."""
    quick(config)
    _shrink(config)


def _shrink(config: ConfigDict) -> None:
    config.model.width = 1 / 64
    config.localizer.channels = (2, 4)
    for plan in config.stages.values():
        common.two_steps(plan)
