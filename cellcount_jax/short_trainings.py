"""Changes of the defaults for trainings of minutes, shared by configs and `cellcount train`."""

from typing import Any

from ml_collections import ConfigDict

from cellcount_jax import defaults

UNSHARP_THRESHOLDS = (
    *(0.003, 0.004, 0.005, 0.0065, 0.008, 0.01, 0.013, 0.016, 0.02, 0.026, 0.033, 0.04),
    *(0.055, 0.07, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5),
)
"""Thresholds of unsharp peaks, which are far lower in predicted maps than in true ones."""

LAB_JITTER = {
    **{"contrast": 0.3, "offset": 0.2, "gamma": 0.3},
    **{"noise": 0.2, "blur": 0.5, "colour": 0.4},
}
"""Random intensity changes that stand for another exposure, camera, focus or stain."""

LAB_PREPROCESSING = {"normalise": "percentile", "mean": (0.5,), "std": (0.25,)}
"""Percentiles of each image: a camera's offset and gain make no difference."""


def lab_density(ndim: int = 2) -> ConfigDict:
    """The default counter as `cellcount train` trains it, but for what it infers from the images.

    Args:
      ndim: 2 or 3 space axes.
    """
    config = defaults.density()
    config.preprocessing.update(LAB_PREPROCESSING)
    config.model.update(
        {
            "ndim": ndim,
            "channels": (8, 16, 32, 64) if ndim == 2 else (8, 16, 32),
            "gate": 0.15,
            "count_weight": 0.05,
            # Nuclei of a volume do not hide each other, as cells of an image do: counting them is
            # more exact than the integral, see docs/experiments-log.md.
            "count": "integral" if ndim == 2 else "peaks",
        }
    )
    plan = config.stages.density
    plan.steps, plan.batch_size.labelled = 1500, 8 if ndim == 2 else 4
    plan.crop = (128, 128) if ndim == 2 else (32, 32, 32)
    plan.update(LAB_JITTER)
    return config


def short_csrnet(config: ConfigDict) -> None:
    """A quarter of the width on crops: minutes on two CPU cores."""
    config.model.width = 0.25
    config.stages.csrnet = defaults.stage(
        steps=1000,
        eval_every=5,
        crop=(128, 128),
        ema_decay=0.98,
        optimizer=defaults.one_cycle(2e-3),
    )


def short_prototypes(config: ConfigDict) -> None:
    """Steps for minutes, and what makes prototypes of the narrow extractor show what they count.

    A falling learning rate, and density weights that follow the last projection. The last of the
    projections on the way must leave steps to recover (a quarter of them here); validation would
    choose a checkpoint before the first one, whose prototypes lie far from all features.
    """
    options = config.prototypes
    options.refit_density = True
    options.project_every = 170
    # With a signed weight some seeds count cells by the absence of background.
    options.density_inputs = "positive"
    # The features of a quarter of the width are 16; the paper's prototypes have 64 dimensions.
    options.channels = 64
    # At 1 the features shrink until prototypes fall together; see docs/experiments-log.md.
    options.feature_weight = 0.3
    # Still less on background prototypes: they meet first, where all background looks alike.
    options.background_weight = 0.4
    # No two prototypes may be the same feature: no loss would separate equal ones.
    options.distinct = "vector"
    plan = config.stages.prototypes
    plan.epochs, plan.steps = None, 1980
    plan.eval_every = 20
    plan.select = "last"
    plan.optimizer.schedule = "cosine"


def kept_apart(config: ConfigDict) -> None:
    """Cell prototypes that stay apart, and a count that needs no bias; chosen on validation.

    Neither paper nor code does this. Of cells that look alike, as in the VGG set, it makes
    prototypes of what lies beside their centres, so that `short_prototypes` does without it.
    """
    options = config.prototypes
    options.start = "clusters"
    options.places, options.feature_weight, options.background_weight = "separate", 3.0, 0.4
    options.diversity, options.margin, options.diversity_weight = "distance", 1.5, 100.0
    options.contrast, options.density_inputs, options.least_share = True, "positive", 0.08
    options.distinct, options.project_by_density = "image", True


def unsharp_peaks(sigma: float) -> dict[str, Any]:
    """Fields of the model that separate close cells in the maps of a short training."""
    return {
        "test_time_augmentation": True,
        "unsharp_sigma": sigma,
        "thresholds": UNSHARP_THRESHOLDS,
        "f1_tolerance": 0.003,
    }
