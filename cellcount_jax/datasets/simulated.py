"""Simulated cells in place of a benchmark whose files are missing."""

import dataclasses
from collections.abc import Callable, Mapping

from cellcount_jax.data.sample import Sample
from cellcount_jax.simulation.simulate import simulate_dataset

N_SIMULATED_IMAGES = 200
"""As many images as in the VGG dataset."""

SIMULATED_VOLUMES = {"train": 4, "test": 5, "unlabelled": 12}
SIMULATED_VOLUME_SHAPE = (32, 112, 112)
"""An eighth of a real light-sheet volume at the same density; few enough to take seconds."""


def _simulated_images() -> list[Sample]:
    return list(simulate_dataset(seed=0, n=N_SIMULATED_IMAGES, shape=(256, 256), preset="vgg"))


def _simulated_volumes() -> list[Sample]:
    """Volumes in the groups of the real dataset; those of the group `unlabelled` have no dots."""
    groups = [group for group, n in SIMULATED_VOLUMES.items() for _ in range(n)]
    volumes = simulate_dataset(
        seed=0, n=len(groups), shape=SIMULATED_VOLUME_SHAPE, preset="light_sheet"
    )
    return [
        dataclasses.replace(
            sample,
            name=f"{group}/{sample.name}",
            group=group,
            dots=None if group == "unlabelled" else sample.dots,
        )
        for group, sample in zip(groups, volumes, strict=True)
    ]


SIMULATED: Mapping[str, Callable[[], list[Sample]]] = {
    "vgg_cells": _simulated_images,
    "light_sheet": _simulated_volumes,
}
"""Datasets that simulated cells may replace if their files are missing."""
