"""Nuclei in fluorescence images of any magnification: the bundled model.

    python -m cellcount_jax.main --config=configs/nuclei.py:quick          # 2 CPU cores, 15 minutes
    python -m cellcount_jax.main --config=configs/nuclei.py:quick_unseen   # whole groups held out
    python -m cellcount_jax.main --config=configs/nuclei.py                # a wider network, a GPU
    python -m benchmarks.accuracy.nuclei runs/nuclei_quick  # errors by group

The default counter on dsb2018 (CC0) and simulated cells. Every image is resized so that its
nuclei are 14 px across: in training by their masks, with a random factor, at prediction by an
estimate from the image. Protocol `by_size`: 350 train, 50 validation, 98 test, every group of
images of one size divided alike; `unseen`: protocol `unseen_size`, whole groups held out.
MAE and MAPE by group: docs/nuclei.md.
"""

from ml_collections import ConfigDict

from cellcount_jax import defaults
from configs import common

DIAMETER = 14.0
"""Of a nucleus as the network sees it, in pixels."""


def get_config(preset: str = "") -> ConfigDict:
    """Settings of a preset: parts joined by an underscore, of quick, tiny and unseen."""
    parts = common.parts_of(preset, "quick", "tiny", "unseen")
    config = defaults.density()
    config.radius = DIAMETER / 2
    config.model.update({"sigma": 2.0, "target_scale": 200.0, "count": "peaks"})
    config.preprocessing.update(
        {"channels": 1, "normalise": "percentile", "mean": (0.25,), "std": (0.25,)}
    )
    config.data.name = "dsb2018"
    config.data.protocol = "unseen_size" if "unseen" in parts else "by_size"
    config.data.normalise_diameter = ConfigDict(
        {
            "diameter": DIAMETER,
            "jitter": 1.5,
            "copies": 2,
            "window": 256,
            "n_simulated": 60,
            "n_noise": 40,
            "autofluorescence": 0.5,
        }
    )
    plan = config.stages.density
    plan.contrast, plan.offset = 0.2, 0.1
    plan.steps, plan.eval_every, plan.ema_decay = 2000, 2, 0.99
    if not parts & {"quick", "tiny"}:
        config.model.channels = (16, 32, 64, 128)
        plan.steps, plan.ema_decay = 20_000, 0.998
    if "tiny" in parts:
        config.model.channels = (2, 4)
        config.data.normalise_diameter.update({"copies": 1, "n_simulated": 1, "n_noise": 1})
        common.two_steps(plan)
    return config
