"""The bundled models of stained tissue, phase contrast, blood smears and volumes of nuclei.

    python -m cellcount_jax.main --config=configs/bundled.py:quick_tissue     # 2 CPU cores, minutes
    python -m cellcount_jax.main --config=configs/bundled.py:quick_phase
    python -m cellcount_jax.main --config=configs/bundled.py:quick_blood
    python -m cellcount_jax.main --config=configs/bundled.py:quick_nuclei3d
    python -m cellcount_jax.main --config=configs/bundled.py:tissue           # wider, a GPU
    python -m benchmarks.accuracy.bundled                                     # errors by group

The default counter with the settings of `cellcount train`, on images at random scales. Protocols:
tissue, `by_size` of dsb2018_stained (CC0); phase, `random` of Usiigaci (MIT); blood, `random` of
Chula RBC-12 (MIT); nuclei3d, `by_embryo` of BBBC050 (CC BY 3.0), whole embryos held out. MAE, MAPE
and F1: docs/models.md. The fifth model, nuclei, has a config of its own.
"""

from typing import NamedTuple

from ml_collections import ConfigDict

from cellcount_jax import short_trainings
from configs import common


class Plan(NamedTuple):
    """What differs between the models.

    Attributes:
      dataset: Dataset that trains the model.
      protocol: How it is split.
      channels: Channels of its images.
      factor: Factor by which images are resized.
      cell_diameter: Mean cell diameter after that, in pixels; of volumes, pixels of the last axis.
      jitter: Training images are resized by up to this, and by one over it.
      sigma: Sigma of a cell in the target density, in pixels after resizing.
      radius: Matching radius in pixels after resizing.
      readout: `integral` of the density, or `peaks`: which had the smaller validation error.
    """

    dataset: str
    protocol: str
    channels: int
    factor: float | tuple[float, ...]
    cell_diameter: float
    jitter: float
    sigma: float
    radius: float
    readout: str


PLANS = {
    "tissue": Plan("dsb2018_stained", "by_size", 3, 1.0, 19.0, 1.5, 2.0, 8.0, "peaks"),
    "phase": Plan("usiigaci", "random", 1, 0.4, 19.0, 1.3, 2.0, 8.0, "integral"),
    "blood": Plan("chula_rbc12", "random", 3, 0.46, 16.0, 1.3, 2.0, 8.0, "integral"),
    "nuclei3d": Plan(
        "bbbc050", "by_embryo", 1, (1.36, 0.622, 0.622), 12.0, 1.2, 1.25, 5.0, "peaks"
    ),
}

STEPS = {2: 2500, 3: 1200}
"""Steps of the preset `quick`, by number of space axes."""


def get_config(preset: str = "") -> ConfigDict:
    """Settings of a preset: a model, by default tissue, and quick or tiny, joined by underscores.

    Raises:
      ValueError: An unknown part, or two models.
    """
    parts = common.parts_of(preset, "quick", "tiny", *PLANS)
    names = parts & set(PLANS)
    if len(names) > 1:
        raise ValueError(f"{preset!r}: one model at a time of {', '.join(PLANS)}")
    plan = PLANS[names.pop() if names else "tissue"]
    ndim = 3 if isinstance(plan.factor, tuple) else 2
    config = short_trainings.lab_density(ndim)
    config.data.name, config.data.protocol = plan.dataset, plan.protocol
    config.data.random_scale = ConfigDict(
        {
            "factor": plan.factor,
            "jitter": plan.jitter,
            "copies": 3,
            "window": 384,
            "cell_diameter": plan.cell_diameter,
        }
    )
    config.radius, config.model.sigma, config.model.count = plan.radius, plan.sigma, plan.readout
    config.preprocessing.channels = plan.channels
    stage = config.stages.density
    # There are 4 to 13 validation images: the best of several checkpoints on them would be chance.
    stage.select, stage.eval_every = "last", 25
    stage.steps, stage.ema_decay = STEPS[ndim], 0.99
    if not parts & {"quick", "tiny"}:
        config.model.channels = tuple(2 * c for c in config.model.channels)
        stage.steps, stage.ema_decay = 20_000, 0.998
    if "tiny" in parts:
        config.model.channels = (2, 4)
        config.data.random_scale.copies = 1
        common.two_steps(stage)
    return config
