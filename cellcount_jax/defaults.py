"""Every field of a config with its default, as plain ConfigDicts; imports no jax.

`configs/` override them for published results, `short_trainings` for trainings of minutes.
"""

from typing import Any

from ml_collections import ConfigDict, config_dict

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

THRESHOLDS = (0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6)
"""Peak heights, as a share of a single cell's peak, among which validation chooses."""

DECODER_THRESHOLDS = (0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75)
"""Thresholds of both decoders, as a share of a single cell's peak, among which labelled training
images choose. In true inverse-distance maps close neighbours separate at 0.5 and above only."""


JITTER = ("contrast", "offset", "gamma", "noise", "blur", "colour", "sharpness")
"""Changes of intensities, see data.augment.IntensityJitter."""


def run(method: str, **fields: Any) -> ConfigDict:
    """The fields of every run; `fields` are added or replaced."""
    base = {
        "method": method,
        "seed": 0,
        "dtype": "float32",
        "radius": 5.0,  # pixels within which a point matches a dot
        "evaluate_on": "test",  # or validation, while settings are being chosen
        "init_from": config_dict.placeholder(str),  # WORKDIR:STAGE, a stage trained by another run
        "data": {
            "name": config_dict.placeholder(str),
            "protocol": config_dict.placeholder(str),
            "folder": config_dict.placeholder(str),  # of images and dots, in place of a dataset
            "patches": config_dict.placeholder(ConfigDict),  # arguments of data.patches.cut
            "n_train": config_dict.placeholder(int),
            "voxel_size": config_dict.placeholder(tuple),  # micrometres volumes are resampled to
            "normalise_diameter": config_dict.placeholder(ConfigDict),
            "random_scale": config_dict.placeholder(ConfigDict),  # see datasets.random_scale
            "on_device_mib": 2048,  # larger training data are streamed from the host
        },
        "preprocessing": {
            "channels": 3,
            "normalise": "dtype",
            "mean": IMAGENET_MEAN,  # None for both: measured on the training images
            "std": IMAGENET_STD,
        },
    }
    return ConfigDict({**base, **fields})


def stage(*, epochs: int | None = None, steps: int | None = None, **fields: Any) -> ConfigDict:
    """How a stage is trained: batch 8, Adam 1e-4, cosine with doubling warm restarts.

    Args:
      epochs: Number of epochs over the labelled images; give these or `steps`.
      steps: Takes precedence over epochs.
      **fields: Added or replaced; those of `optimizer` one by one.
    """
    optimizer = {
        "name": "adam",
        "learning_rate": 1e-4,
        "schedule": "warm_restarts",
        "first_cycle": config_dict.placeholder(int),  # steps; takes precedence over epochs
        "first_cycle_epochs": 10,
        "multiplier": 2,
        "floor": 1e-6,
        "warmup_steps": 0,
        "weight_decay": 0.0,
        "clip": config_dict.placeholder(float),
        "rates": {},  # name of parameters -> factor of their learning rate
    }
    optimizer.update(fields.pop("optimizer", {}))
    plan = {
        "batch_size": {"labelled": 8},
        "epochs": config_dict.placeholder(int),
        "steps": config_dict.placeholder(int),
        "eval_every": 1,  # epochs
        "select": "best",  # or last
        "ema_decay": 0.0,  # of a moving average of the weights, which then predicts; 0: none
        "recalibrate": 0,  # training batches that give averaged weights their batch statistics
        "grad_accumulation": 1,  # microbatches per step
        "remat": "none",  # or convolutions, pools: see training.step.REMAT
        "steps_per_call": 1,  # steps in one compiled call, where the data are resident
        "crop": config_dict.placeholder(tuple),
        "mosaic": 0.0,  # probability of an image of quadrants of four others
        "flips": True,
        # Largest random changes of intensities, see data.augment.IntensityJitter
        **dict.fromkeys(JITTER, 0.0),
        "optimizer": optimizer,
    }
    plan = ConfigDict({**plan, **fields})
    plan.epochs, plan.steps = epochs, steps
    return plan


def one_cycle(learning_rate: float) -> dict[str, Any]:
    """Optimizer fields of a short training: warm-up, one cosine, clipped gradients."""
    return {
        "learning_rate": learning_rate,
        "schedule": "cosine",
        "warmup_steps": 30,
        "clip": 1.0,
    }


def density() -> ConfigDict:
    """The default counter: a compact UNet on Gaussian densities, minutes on two CPU cores."""
    model = {
        "ndim": 2,  # or 3, for volumes
        "channels": (8, 16, 32, 64),
        "sigma": 1.0,
        "target_scale": 100.0,
        "count": "integral",  # or peaks, where cells lie well apart
        "count_weight": 0.0,  # of the error of a crop's count, beside that of its density
        "gate": 0.0,  # share of one cell's peak; density near nothing as high is background
        "thresholds": THRESHOLDS,
    }
    plan = stage(
        steps=800, eval_every=8, crop=(128, 128), ema_decay=0.98, optimizer=one_cycle(2e-3)
    )
    return run("density", model=model, stages={"density": plan})


def csrnet() -> ConfigDict:
    """CSRNet (CVPR 2018) of full width without imported weights."""
    model = {
        "width": 1.0,
        "batch_norm": True,
        "kernel_init": "he",
        "pretrained": config_dict.placeholder(str),
        "start_at_mean": True,
        "sigma": 4.0,
        "adaptive_sigma": False,
        "target_scale": 1.0,
    }
    plan = stage(epochs=300, ema_decay=0.99, optimizer=one_cycle(1e-3))
    return run("csrnet", model=model, stages={"csrnet": plan})


def add_prototypes(config: ConfigDict, *, n_prototypes: int = 6, batch_size: int = 32) -> None:
    """Adds the prototypes of CountXplain (MIDL 2025), as released, to a config."""
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
    config.stages.prototypes = stage(
        epochs=500,
        eval_every=5,
        flips=False,
        batch_size={"labelled": batch_size},
        optimizer={"learning_rate": 1e-2, "schedule": "constant"},
    )


def consistency(*, ndim: int = 2) -> ConfigDict:
    """Focal consistency as published (MOVI 2022) and released.

    Args:
      ndim: 2 for images, 3 for volumes.
    """
    flat = ndim == 2
    model = {
        "base_channels": 32,
        "levels": 4,
        "norm": "instance",
        "dropout": config_dict.placeholder(float),  # None: as published with the norm
        "window": (256, 256) if flat else (64, 224, 224),
        "standardise": not flat,
        "target": "inverse_distance",
        "target_scale": 100.0 if flat else 1.0,
        "sigma": (2.0,) * ndim,
        "spacing": config_dict.placeholder(tuple),
        "cutoff": 0.0,
        "decoders": ("components", "peaks"),
        "thresholds": DECODER_THRESHOLDS,
        "f1_tolerance": 0.0,  # within which the number of points chooses a threshold
        "unsharp_sigma": config_dict.placeholder(float),  # pixels, see methods.postprocess
        "test_time_augmentation": False,  # mean over mirror images and quarter turns
    }
    plan = stage(
        steps=12_750,
        eval_every=250,
        select="last",
        crop=(224, 224) if flat else (56, 200, 200),
        batch_size={"labelled": 8, "unlabelled": 80} if flat else {"labelled": 1, "unlabelled": 4},
        optimizer={
            "name": "adamw",
            "learning_rate": 1e-3,
            "first_cycle": 50,
            "floor": 0.0,
            "weight_decay": 1.0,
        },
    )
    stages, terms = {"consistency": plan}, _consistency_options()
    return run("consistency", model=model, consistency=terms, stages=stages)


def _consistency_options() -> dict[str, Any]:
    """How student and teacher see an unlabelled image, and how their maps are compared."""
    return {
        "weight": 1.0,
        "scale": "absolute",  # or relative: to the running sizes of the two terms
        "ramp_steps": 150,
        "ramp_shape": "exponential",
        "noise_levels": "all",  # or last
        "noise_amplitude": 1.0,  # of the features, relative
        "normalise": "nonzero",  # or pixels, weight
        # Share of a map's maximum, as FIDTM's decoder has it (100 / 255): lower peaks are ripples
        # between cells. None, as released: every position of a flat map is a peak, and unlabelled
        # images teach that nothing is there.
        "peak_threshold": 0.4,
        "teacher": "student",  # or average: moving average of the weights
        "teacher_views": False,  # the teacher's map is the mean over mirror images
        "statistics": "labelled",  # or stream: whose statistics batch norm uses in training
        # Largest random changes of the images that the student alone sees.
        "view": dict.fromkeys(JITTER, 0.0),
    }
