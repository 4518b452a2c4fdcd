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
similarity to cells 0 where a background prototype is nearer, see `short_trainings.kept_apart`.
`--config.evaluate_on=validation` leaves the test part closed.
Measured figures: docs/results/countxplain.md.
"""

from ml_collections import ConfigDict

from cellcount_jax import defaults, short_trainings
from configs import common, csrnet_vgg


def get_config(preset: str = "") -> ConfigDict:
    """Settings of a preset: "" (from scratch), imagenet, quick or tiny."""
    return on_top_of(csrnet_vgg.get_config(preset), preset)


def on_top_of(
    config: ConfigDict, preset: str, *, n_prototypes: int = 6, batch_size: int = 32
) -> ConfigDict:
    """Adds the prototypes to the config of a density network."""
    defaults.add_prototypes(config, n_prototypes=n_prototypes, batch_size=batch_size)
    if preset in ("quick", "tiny"):
        short_trainings.short_prototypes(config)
    if preset == "tiny":
        tiny(config)
    return config


def tiny(config: ConfigDict) -> None:
    """For tests: the same program on almost nothing."""
    config.prototypes.n_prototypes = 4
    config.prototypes.project_every = 1
    common.two_steps(config.stages.prototypes)
