"""The image sets, each halved once by group: settings are chosen on half A, half B is reported."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cellcount_jax.data.sample import Sample
from cellcount_jax.datasets.registry import BENCHMARKS
from cellcount_jax.simulation.simulate import simulate_dataset

HALVES = Path(__file__).with_name("halves.json")
"""Set -> half -> groups; made by `halve`, committed, never made again."""


class ImageSet(NamedTuple):
    """A set of annotated images.

    Attributes:
      read: Folder of raw data -> its images.
      radius: Matching radius in pixels; None: half the median true diameter.
      dark: Cells are darker than the background, which Otsu and LoG are told.
    """

    read: Callable[[Path], Iterator[Sample]]
    radius: float | None = None
    dark: bool = False


def benchmark(name: str, group: str = "") -> Callable[[Path], Iterator[Sample]]:
    """Reads a benchmark of the package, or one of its groups."""

    def read(root: Path) -> Iterator[Sample]:
        yield from (s for s in BENCHMARKS[name].read(root / name) if group in ("", s.group))

    return read


def simulated(root: Path) -> Iterator[Sample]:
    """Forty simulated fluorescence images."""
    del root
    yield from simulate_dataset(15, 40)


SETS = {
    "vgg_cells": ImageSet(benchmark("vgg_cells"), 5.0),
    "mbm": ImageSet(benchmark("mbm"), 10.0, dark=True),
    "adi": ImageSet(benchmark("adi"), 5.0, dark=False),
    "dsb2018_256": ImageSet(benchmark("dsb2018", "256x256")),
    "dsb2018_360": ImageSet(benchmark("dsb2018", "360x360")),
    "dsb2018_520": ImageSet(benchmark("dsb2018", "520x696")),
    "dsb2018_stained": ImageSet(benchmark("dsb2018_stained"), dark=True),
    "usiigaci": ImageSet(benchmark("usiigaci")),
    "chula_rbc12": ImageSet(benchmark("chula_rbc12"), 20.0, dark=True),
    "bbbc050": ImageSet(benchmark("bbbc050")),
    "simulated": ImageSet(simulated, 5.0),
}


def read_half(name: str, half: str) -> list[Sample]:
    """The images of one half, in the order of their names; of each image at least one dot.

    Raises:
      KeyError: CELLCOUNT_RAW_DIR is not set.
    """
    groups = set(json.loads(HALVES.read_text())[name][half])
    samples = SETS[name].read(Path(os.environ["CELLCOUNT_RAW_DIR"]))
    return sorted((s for s in samples if group_of(s) in groups), key=lambda s: s.name)


def group_of(sample: Sample) -> str:
    """Slide, donor or embryo; of other sets, and of groups of one size, the image itself."""
    by_size = "x" in sample.group and sample.group.replace("x", "").isdigit()
    return sample.name if by_size or not sample.group else sample.group


def halve(names: list[str]) -> dict[str, list[str]]:
    """Groups in random order, alternately to the halves.

    Args:
      names: Groups of a set.
    """
    order = np.random.default_rng(20_261_126).permutation(sorted(set(names)))
    return {"A": sorted(order[0::2].tolist()), "B": sorted(order[1::2].tolist())}


def true_diameter(samples: list[Sample]) -> float | None:
    """Median over cells of the diameter in pixels of the last axis; None without masks."""
    sizes = []
    for sample in samples:
        if sample.labels is not None:
            found = np.bincount(sample.labels.ravel().astype(np.int64))[1:]
            ratio = np.prod(np.divide(sample.spacing, sample.spacing[-1])) if sample.spacing else 1
            volumetric = sample.labels.ndim == 3
            sizes.append(found[found > 0] * (ratio if volumetric else 1))
    if not sizes:
        return None
    size = float(np.median(np.concatenate(sizes)))
    volumetric = samples[0].image.ndim == 4
    return 2 * ((0.75 * size / np.pi) ** (1 / 3) if volumetric else (size / np.pi) ** 0.5)
