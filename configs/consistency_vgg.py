"""Focal consistency on the VGG synthetic cells (Guo et al., MOVI 2022: F1 96.78 %, MAE 5.6 with 8
labelled and 92 unlabelled images; by points, not by an integral).

    python -m cellcount_jax.main --config=configs/consistency_vgg.py          # a GPU
    python -m cellcount_jax.main --config=configs/consistency_vgg.py:quick    # 2 CPU cores, minutes
    python -m cellcount_jax.main --config=configs/consistency_vgg.py:quick_supervised
    python -m cellcount_jax.main --config=configs/consistency_vgg.py:quick_gaussian
    python -m cellcount_jax.main --config=configs/consistency_vgg.py:few      # 1 to 16 labels

Protocol `consistency`: the published division by a fixed permutation; 8 labelled and 92 unlabelled
images to train on, 100 to test, none for validation. The last checkpoint counts; decoder and
threshold are chosen on the 8 labelled images. `supervised` drops the unlabelled images,
`gaussian` also takes Gaussian targets: the rows of the paper's ablation, which
`benchmarks/accuracy/consistency_ablation.py` runs over seeds.
Only peaks above 0.4 of a map's maximum have a weight; `released` is the loss of the
released code, where every position of a flat map is a peak (`peak_threshold=None`). Where else
paper and released code differ, the code is followed; the paper's form is a flag:
`--config.consistency.noise_levels=last`, `.normalise=pixels`, `.ramp_shape=squared`. Of our own
are `scale=relative`, `normalise=weight`, `teacher=average`, `teacher_views`, `statistics=stream`
(with batch norm) and `view`, what the student alone sees; the preset `few` uses some of them.
Measured figures: docs/results/consistency.md.
"""

from ml_collections import ConfigDict

from cellcount_jax import defaults, short_trainings
from configs import common

VGG_MEAN = (0.0018, 0.0020, 0.3541)
VGG_STD = (0.0031, 0.0031, 0.2066)
"""Of the 100 training images, in [0, 1]. Red and green hold next to nothing."""


def get_config(preset: str = "") -> ConfigDict:
    """Settings of a preset: "" (the paper's), quick, few or tiny; each also with `supervised`,
    `gaussian` and `released` (alone or joined by underscores)."""
    config = defaults.consistency()
    config.data.name = "vgg_cells"
    config.data.protocol = "consistency"
    config.preprocessing.update({"mean": VGG_MEAN, "std": VGG_STD})
    config.model.sigma = (1.0, 1.0)  # twice that, and close cells have one peak
    return common.consistency_preset(config, preset, quick=quick)


def quick(config: ConfigDict) -> None:
    """A quarter of the width, batch norm, smaller crops and batches: minutes on 2 cores.

    Targets are scaled by 10, not 100, which a short training would spend its steps to reach. Peaks
    are read from the unsharp mean over mirror images, see `methods.postprocess`.
    """
    config.model.update({"base_channels": 8, "norm": "batch", "target_scale": 10.0})
    config.model.update(short_trainings.unsharp_peaks(0.6))
    plan = config.stages.consistency
    plan.batch_size.update({"labelled": 8, "unlabelled": 4})
    plan.steps = 800
    plan.eval_every = 100
    plan.crop = (112, 112)
    plan.ema_decay = 0.98
    plan.optimizer.update(defaults.one_cycle(2e-3) | {"weight_decay": 0.0})
