"""The default counter on the VGG synthetic cells, 100 train and 100 test images.

    python -m cellcount_jax.main --config=configs/density_vgg.py          # a GPU, or an hour on CPU
    python -m cellcount_jax.main --config=configs/density_vgg.py:quick    # 2 CPU cores, 3 minutes
    python -m cellcount_jax.main --config=configs/density_vgg.py:quick --config.data.n_train=10

Protocol `half`: the halves by seed, a tenth of the training half for validation. Best published
MAE on this set: 2.3 (50 training images).
Measured figures: docs/results.md.
"""

from ml_collections import ConfigDict

from cellcount_jax import defaults


def get_config(preset: str = "") -> ConfigDict:
    """Settings of a preset: "", quick or tiny."""
    if preset not in ("", "quick", "tiny"):
        raise ValueError(f"no preset {preset!r}; there are '', quick, tiny")
    config = defaults.density()
    config.data.name = "vgg_cells"
    config.data.protocol = "half"
    plan = config.stages.density
    if preset == "":
        config.model.channels = (32, 64, 128, 256)
        plan.steps = 6000
    if preset == "tiny":
        config.model.channels = (2, 4)
        plan.batch_size.labelled = 2
        plan.steps = 2
        plan.eval_every = 1
        plan.optimizer.warmup_steps = 0
    return config
