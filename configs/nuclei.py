"""Nuclei in fluorescence images of any magnification: the model in the box.

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

DIAMETER = 14.0
"""Of a nucleus as the network sees it, in pixels."""


def get_config(preset: str = "") -> ConfigDict:
    """Settings of a preset: parts joined by an underscore, of quick, tiny and unseen."""
    parts = [p for p in preset.split("_") if p]
    if set(parts) - {"quick", "tiny", "unseen"}:
        raise ValueError(
            f"no preset {preset!r}; there are '', quick, tiny, unseen, and two of them joined by "
            "an underscore, such as quick_unseen"
        )
    config = defaults.density()
    config.radius = DIAMETER / 2
    config.model.sigma, config.model.target_scale = 2.0, 200.0
    config.preprocessing.update(
        {"channels": 1, "normalise": "percentile", "mean": (0.25,), "std": (0.25,)}
    )
    config.data.name = "dsb2018"
    config.data.protocol = "unseen_size" if "unseen" in parts else "by_size"
    with config.unlocked():
        config.model.count = "peaks"
        config.data.same_size = ConfigDict(
            {
                "diameter": DIAMETER,
                "jitter": 1.5,
                "copies": 2,
                "window": 256,
                "n_simulated": 60,
                "n_noise": 40,
                "glow": 0.5,
            }
        )
    plan = config.stages.density
    plan.contrast, plan.offset = 0.2, 0.1
    plan.steps, plan.eval_every, plan.average = 2000, 2, 0.99
    if not parts or parts == ["unseen"]:
        config.model.channels = (16, 32, 64, 128)
        plan.steps, plan.average = 20_000, 0.998
    if "tiny" in parts:
        _make_tiny(config)
    return config


def _make_tiny(config: ConfigDict) -> None:
    config.model.channels = (2, 4)
    config.data.same_size.update({"copies": 1, "n_simulated": 1, "n_noise": 1})
    plan = config.stages.density
    plan.batch_size.labelled = 2
    plan.steps, plan.eval_every = 2, 1
    plan.optimizer.warmup_steps = 0
