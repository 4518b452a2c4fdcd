"""A lab's own folder: images, the clicks that were made on them, and how they are split.

    FOLDER/images/a.tif  b.png ...        images (or directly in FOLDER)
    FOLDER/dots/a.csv    b_RoiSet.zip ... annotations, in `dots/` or beside the images
    FOLDER/split.csv                      optional: columns image, split (train, validation, test)

An image without annotations is unlabelled. An image is matched with the annotation file of the
same stem; the usual additions of the tools (`CellCounter_a.xml`, `a_RoiSet.zip`, `a_masks.tif`,
`a_seg.npy`, `a_dots.png`, `a-points.tsv`) do not count.
"""

import csv
import hashlib
import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from cellcount_jax.data.sample import Sample
from cellcount_jax.datasets.load import SplitDataset
from cellcount_jax.io.annotations.dots import read_dots
from cellcount_jax.io.images.image import list_images, read_image

PARTS = ("train", "validation", "test")

ANNOTATION_ENDINGS = (
    ".csv", ".tsv", ".txt", ".roi", ".zip", ".xml", ".geojson", ".json", ".npy", ".png", ".tif",
    ".tiff", ".bmp", ".gif",
)  # fmt: skip

_ADDITIONS = re.compile(
    r"^(cellcounter_)|([_.\- ](dots|points|masks?|labels?|seg|roiset|rois?|cp_masks))$", re.I
)

log = logging.getLogger(__name__)


class FolderError(ValueError):
    """A folder cannot be used; one line says what to do."""


def stem(path: Path) -> str:
    """Name of a file without its ending and without what annotation tools add."""
    name = path.name
    for ending in (".ome.tif", ".ome.tiff", ".ome.zarr", ".zarr", ".tar.gz"):
        if name.lower().endswith(ending):
            return _ADDITIONS.sub("", name[: -len(ending)]).lower()
    return _ADDITIONS.sub("", path.stem).lower()


def find_pairs(folder: Path) -> tuple[list[Path], dict[Path, Path]]:
    """Images of a folder and, for those that have one, their annotation file.

    Raises:
      FolderError: the folder is missing or holds no images, or two files annotate one image.
    """
    if not folder.is_dir():
        raise FolderError(f"{folder}: no such folder")
    root = folder / "images" if (folder / "images").is_dir() else folder
    beside = [folder / "dots"] if (folder / "dots").is_dir() else [root]
    notes: dict[str, list[Path]] = {}
    for place in beside:
        for path in sorted(place.iterdir()):
            if path.suffix.lower() in ANNOTATION_ENDINGS and not path.name.startswith("."):
                notes.setdefault(stem(path), []).append(path)
    images = [p for p in list_images([root]) if not _is_annotation(p, root)]
    if not images:
        raise FolderError(f"{folder}: no images found; put them in {folder / 'images'}")
    pairs = {}
    for image in images:
        found = [n for n in notes.get(stem(image), []) if n != image]
        if len(found) > 1:
            names = ", ".join(n.name for n in found)
            raise FolderError(f"{image}: more than one annotation file ({names}); keep one")
        if found:
            pairs[image] = found[0]
    return images, pairs


def _is_annotation(path: Path, root: Path) -> bool:
    """Whether an image file beside the images is itself an annotation, by its name."""
    bare = path.stem.lower()
    return path.parent == root and stem(path) != bare and _ADDITIONS.search(bare) is not None


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
