"""CountXplain on the VGG synthetic cells (MIDL 2025; no MAE is published for this set; on two
others CountXplain and the CSRNet that it stands on differ by 0.02 and 0.07).

    python -m cellcount_jax.main --config=configs/countxplain_vgg.py          # for a GPU
    python -m cellcount_jax.main --config=configs/countxplain_vgg.py:quick    # 2 CPU cores, minutes
    python -m cellcount_jax.main --config=configs/countxplain_vgg.py:quick \
        --config.init_from=runs/csrnet_vgg_quick:csrnet                       # density net shared

Protocol `dcl`: 100 train, 10 validation, 90 test images by seed. The density network is that of
csrnet_vgg.py, preset for preset. Prototypes: 6 of the released code's kind, Adam at 1e-2, batch 32,
500 epochs on features computed once, a projection every 100 epochs and a last one.
Ablations, each a flag: `--config.prototypes.diversity_weight=0`, `.feature_weight=0`,
`.n_prototypes=2` (4, 8, 10), `.tau=0`; the paper's own formula: `.density_inputs=all`,
`.reduction=mean`, `.density_scale=1`. `.refit_density=True` fits the density layer's weights to the
prototypes that the last projection has moved, by least squares, as `quick` does; neither paper
nor code does, and without it the projection of prototypes far from all features ruins the count.
`quick` also takes weights that cannot be negative (`.density_inputs=positive`), 64 dimensions for
prototypes (`.channels`), distinct features for them (`.distinct`) and a weaker pull.
`.places=separate` sends each prototype to a peak (or an empty place) of its own in every image,
`.diversity=distance` parts those nearer than `.margin` (squared), `.contrast=True` makes the
similarity to cells 0 where a background prototype is nearer, see `kept_apart`.
`--config.evaluate_on=validation` leaves the test part closed.
Measured figures: docs/results/countxplain.md.
"""

from ml_collections import ConfigDict, config_dict

from cellcount_jax import defaults
from configs import common, csrnet_vgg


def get_config(preset: str = "") -> ConfigDict:
    """Settings of a preset: "" (from scratch), imagenet, quick or tiny."""
    return on_top_of(csrnet_vgg.get_config(preset), preset)


def on_top_of(
    config: ConfigDict, preset: str, *, n_prototypes: int = 6, batch_size: int = 32
) -> ConfigDict:
    """Adds the prototypes to the config of a density network."""
    config.method = "countxplain"
    config.prototypes = ConfigDict(
        {
            "n_prototypes": n_prototypes,
            "channels": config_dict.placeholder(int),  # as many as the features have
            "density_inputs": "cell_half",
            "density_scale": 100.0,
            "density_weight": 1.0,
            "feature_weight": 1.0,
            "background_weight": 1.0,  # of the pull on background prototypes, beside cell ones
            "diversity_weight": 100.0,
            "tau": 0.8,
            "reduction": "sum",
            "project_every": 100,
            "distinct": "",  # or vector, image: what no two prototypes may share
            "project_by_density": False,  # cells onto dense places, background onto empty ones
            "refit_density": False,
            "least_share": 0.0,  # of the count, for each cell prototype, when weights are refitted
            "contrast": False,  # similarities beyond the best of the other group
            "places": "one",  # or separate: a place in the image for each prototype
            "diversity": "cosine",  # or distance, which has a margin in place of tau
            "margin": 2.0,
            "start": "random",  # or clusters
        }
    )
    config.stages.prototypes = defaults.stage(
        epochs=500,
        eval_every=5,
        flips=False,
        batch_size={"labelled": batch_size},
        optimizer={"learning_rate": 1e-2, "schedule": "constant"},
    )
    if preset in ("quick", "tiny"):
        quick(config)
    if preset == "tiny":
        tiny(config)
    return config


def quick(config: ConfigDict) -> None:
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
    prototypes of what lies beside their centres, so that `quick` does without it there.
    """
    options = config.prototypes
    options.start = "clusters"
    options.places, options.feature_weight, options.background_weight = "separate", 3.0, 0.4
    options.diversity, options.margin, options.diversity_weight = "distance", 1.5, 100.0
    options.contrast, options.density_inputs, options.least_share = True, "positive", 0.08
    options.distinct, options.project_by_density = "image", True


def tiny(config: ConfigDict) -> None:
    """For tests: the same program on almost nothing."""
    config.prototypes.n_prototypes = 4
    config.prototypes.project_every = 1
    common.two_steps(config.stages.prototypes)
