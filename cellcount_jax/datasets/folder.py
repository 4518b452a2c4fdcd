"""A lab's own folder: images, the clicks that were made on them, and how they are split.

    FOLDER/images/a.tif  b.png ...        images (or directly in FOLDER)
    FOLDER/dots/a.csv    b_RoiSet.zip ... annotations, in `dots/` or beside the images
    FOLDER/split.csv                      optional: columns image, split (train, validation, test)

An image without annotations is unlabelled; `io.pairing` says which files belong together.
"""

import csv
import hashlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from cellcount_jax.data.sample import Sample
from cellcount_jax.datasets.load import SplitDataset
from cellcount_jax.io.annotations.dots import read_dots
from cellcount_jax.io.images.image import read_image
from cellcount_jax.io.pairing import FolderError, find_pairs, stem

PARTS = ("train", "validation", "test")

log = logging.getLogger(__name__)


def read_folder(folder: Path, *, channels: Sequence[int | str] | None = None) -> list[Sample]:
    """All images of a folder with their dots.

    Args:
      folder: laid out as this module says.
      channels: of the images, by index or name; None takes all.

    Returns:
      Samples in the order of their files; those without annotations have dots None.

    Raises:
      FolderError: nothing to train on.
      ValueError: a file cannot be read; the line names it.
    """
    images, pairs = find_pairs(folder)
    samples = []
    for path in images:
        image = read_image(path, channels=channels)
        dots = None
        if path in pairs:
            shape = image.pixels.shape[:-1]
            dots = read_dots(pairs[path], image_shape=shape).points
        name = path.relative_to(folder).as_posix()
        samples.append(Sample(name, image.pixels, dots, spacing=image.spacing))
    if not any(s.dots is not None for s in samples):
        raise FolderError(
            f"{folder}: {len(samples)} images but no annotations; put them in {folder / 'dots'}, "
            f"or make first ones with: cellcount propose {folder}"
        )
    return samples


def load_folder(
    folder: Path, *, seed: int = 0, channels: Sequence[int | str] | None = None
) -> SplitDataset:
    """A lab's folder, split.

    Without `split.csv` the labelled images are split by seed: with 20 or more a fifth is kept
    for the test, below that none is; a tenth (at least two) of ten or more validates.

    Raises:
      FolderError: nothing to train on, or a wrong `split.csv`.
    """
    samples = read_folder(folder, channels=channels)
    labelled = [s for s in samples if s.dots is not None]
    splits = _read_split(folder / "split.csv", {s.name: s for s in samples})
    listed = splits is not None
    if splits is None:
        rows = random_split(len(labelled), seed)
        splits = {part: [labelled[i] for i in rows[part]] for part in PARTS}
    rest = [s for s in samples if s.dots is None]
    splits = {part: rows for part, rows in splits.items() if rows}
    if rest:
        splits["unlabelled"] = rest
    if not splits.get("train"):
        raise FolderError(f"{folder / 'split.csv'}: no labelled image is in the part train")
    sizes = ", ".join(f"{len(rows)} {part}" for part, rows in splits.items())
    return SplitDataset(
        name=folder.resolve().name,
        protocol="split.csv" if listed else "random",
        seed=seed,
        splits=splits,
        is_fallback=False,
        split_hash=_hash(splits),
        description=f"{folder}: {sizes}",
    )


def random_split(n: int, seed: int) -> dict[str, list[int]]:
    """Rows of each part of n labelled images."""
    order = np.random.default_rng(seed).permutation(n).tolist()
    n_test = n // 5 if n >= 20 else 0
    n_validation = max(2, n // 10) if n >= 10 else 0
    return {
        "test": sorted(order[:n_test]),
        "validation": sorted(order[n_test : n_test + n_validation]),
        "train": sorted(order[n_test + n_validation :]),
    }


def _read_split(path: Path, samples: Mapping[str, Sample]) -> dict[str, list[Sample]] | None:
    if not path.exists():
        return None
    by_stem = {stem(Path(name)): sample for name, sample in samples.items()}
    splits: dict[str, list[Sample]] = {part: [] for part in PARTS}
    with path.open(newline="", encoding="utf-8-sig") as file:
        for number, row in enumerate(csv.DictReader(file), start=2):
            if "image" not in row or "split" not in row:
                raise FolderError(f"{path}: the columns must be named image and split")
            part, name = (row["split"] or "").strip().lower(), (row["image"] or "").strip()
            sample = samples.get(name) or by_stem.get(stem(Path(name)))
            if part not in PARTS:
                raise FolderError(f"{path}, line {number}: split {part!r} is none of {PARTS}")
            if sample is None:
                raise FolderError(f"{path}, line {number}: no image {name!r} in the folder")
            if sample.dots is None:
                raise FolderError(f"{path}, line {number}: {name!r} has no annotation file")
            splits[part].append(sample)
    return splits


def _hash(splits: Mapping[str, Sequence[Sample]]) -> str:
    lines = [f"{part}:{s.name}" for part in sorted(splits) for s in splits[part]]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]
