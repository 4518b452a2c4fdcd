"""A lab's own folder: images, their dots, and how they are split.

    FOLDER/images/a.tif  b.png ...        images (or directly in FOLDER)
    FOLDER/dots/a.csv    b_RoiSet.zip ... annotations, in `dots/` or next to the images
    FOLDER/not_cells/a.csv               optional: places that a person marked as no cell
    FOLDER/split.csv                      optional: columns image, split (train, validation, test)

An image without annotations is unlabelled; `io.pairing` says which files belong together.
"""

import dataclasses
import hashlib
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cellcount_jax.data import outliers
from cellcount_jax.data.resampling import SAME_SIZE_TOLERANCE
from cellcount_jax.data.sample import Sample
from cellcount_jax.datasets.load import SplitDataset
from cellcount_jax.datasets.splits import describe_sizes
from cellcount_jax.datasets.usable_images import usable
from cellcount_jax.io.annotations import csv_table
from cellcount_jax.io.annotations.dots import read_dots
from cellcount_jax.io.images.axes import chosen_spacing
from cellcount_jax.io.images.find import list_images
from cellcount_jax.io.images.image import Image, read_image
from cellcount_jax.io.pairing import FolderError, find_pairs, marked_files, stem, unpaired_dots
from cellcount_jax.runtime.path_text import path_text

SPLITS = ("train", "validation", "test")

log = logging.getLogger(__name__)


def read_folder(
    folder: Path,
    *,
    voxel_size: Sequence[float] | None = None,
    **chosen: Any,
) -> tuple[list[Sample], dict[str, str]]:
    """All images of a folder with their dots, but for those that cannot be used.

    Args:
      folder: Folder with the layout above.
      voxel_size: Micrometres per pixel, (z, y, x), in place of the files' metadata.
      **chosen: `channels`, `axes`, `scene` and `time` of `read_image`.

    Returns:
      Samples in the order of their files, those without annotations with dots None; and the files
      left out, name -> line that says why.

    Raises:
      FolderError: There is nothing to train on, or half of the images with dots cannot be used;
        the log names each.
      ValueError: The only unusable image is half of them or more; the message names it.
    """
    images, pairs = find_pairs(folder)
    marked = marked_files(folder, images)
    samples, errors, left_out = [], [], {}
    for path in images:
        try:
            both = pairs.get(path), marked.get(path)
            samples.append(_read_sample(path, folder, both, voxel_size, chosen))
        except ValueError as error:
            left_out[_name(path, folder)] = str(error)
            errors += [error] if path in pairs else []
    usable.check_enough(folder, errors, len(pairs))
    if not any(s.dots is not None for s in samples):
        raise FolderError(
            f"{folder}: {len(samples)} images but no annotations; put them in {folder / 'dots'}, "
            f"or make first ones with: cellcount propose {folder}"
        )
    for path in unpaired_dots(folder, pairs):
        left_out[_name(path, folder)] = f"{path_text(path)}: no image has its name"
    channels = {", ".join(s.channel_names) for s in samples if len(s.channel_names) > 1}
    if len(channels) > 1:
        log.warning(
            "%s: its images name their channels differently (%s); give the same ones in one order "
            "with --channels",
            *(folder, "; ".join(sorted(channels)[:3])),
        )
    return samples, left_out


def _name(path: Path, folder: Path) -> str:
    return path_text(path.relative_to(folder).as_posix())


def _read_sample(
    path: Path,
    folder: Path,
    files: tuple[Path | None, Path | None],
    voxel_size: Sequence[float] | None,
    chosen: Mapping[str, Any],
) -> Sample:
    image = read_image(path, **chosen)
    spacing, shape = chosen_spacing(image, voxel_size), image.pixels.shape[:-1]
    dots, not_cells = (
        None if file is None else read_dots(file, image_shape=shape, pixel_size=spacing).points
        for file in files
    )
    if dots is None or (not_cells is not None and not len(not_cells)):
        not_cells = None  # without dots an image is not annotated
    return Sample(
        _name(path, folder),
        _clean(image),
        dots,
        spacing=spacing,
        channel_names=image.channel_names,
        not_cells=not_cells,
    )


def read_unlabelled(
    paths: Sequence[Path],
    *,
    voxel_size: Sequence[float] | None = None,
    **chosen: Any,
) -> list[Sample]:
    """All images of files and folders, as images without dots, by their paths.

    Raises:
      ValueError: There are none, or a file cannot be read; the message names it.
    """
    samples = []
    for path in list_images(paths) if paths else ():
        image = read_image(path, **chosen)
        spacing = chosen_spacing(image, voxel_size)
        samples.append(Sample(path_text(path), _clean(image), None, spacing=spacing))
    return samples


def _clean(image: Image) -> np.ndarray:
    """Pixels with hot pixels and fills replaced, as in counting."""
    return outliers.replace_outliers(image.pixels, name=str(image.path))[0]


def with_unlabelled(source: SplitDataset, samples: Sequence[Sample]) -> SplitDataset:
    """The same data with more images without dots.

    Raises:
      FolderError: There are none.
      ValueError: The axes, channels or pixel size of one differ from those of the annotated ones.
    """
    every = [*source.splits.get("unlabelled", ()), *samples]
    if not every:
        raise FolderError("no images without dots to train on: name a folder after --unlabelled")
    first = source.splits["train"][0]
    for sample in every:
        alike = sample.image.ndim == first.image.ndim
        if not alike or sample.image.shape[-1] != first.image.shape[-1]:
            raise ValueError(
                f"{sample.name} {sample.image.shape} and {first.name} {first.image.shape}, which "
                "has dots, differ in axes or channels; choose channels, or leave it out"
            )
        if (
            sample.spacing
            and first.spacing
            and not np.allclose(sample.spacing, first.spacing, rtol=SAME_SIZE_TOLERANCE)
        ):
            raise ValueError(
                f"{sample.name}: its pixel size {sample.spacing} um is not that of {first.name}, "
                f"{first.spacing}; give the right one with --voxel-size, or leave it out"
            )
    splits = {**source.splits, "unlabelled": every}
    text = f"{source.description.partition(':')[0]}: {describe_sizes(splits)}"
    return dataclasses.replace(source, splits=splits, split_hash=_hash(splits), description=text)


def load_folder(
    folder: Path,
    *,
    seed: int = 0,
    voxel_size: Sequence[float] | None = None,
    **chosen: Any,
) -> SplitDataset:
    """Reads a lab's folder and splits it; what is left out is named in the log and the result.

    Without `split.csv` the labelled images are split at random: of 20 or more a fifth is for
    test and a tenth for validation; of fewer, all are trained on. Left out are files that cannot
    be read, images of other axes or channels than most, and those that have another
    image's dots, or none in their file beside cells. The last are kept where `split.csv` lists
    them, as are dots that are merely doubtful; both are named.

    Raises:
      ValueError: There is nothing to train on, or `split.csv` is wrong.
    """
    samples, left_out = read_folder(folder, voxel_size=voxel_size, **chosen)
    labelled = [s for s in samples if s.dots is not None]
    left_out |= usable.of_another_kind(labelled)
    labelled = [s for s in labelled if s.name not in left_out]
    doubtful, path = usable.misplaced(labelled), folder / "split.csv"
    known = {s.name: s for s in samples if s.name not in left_out}
    splits = _read_split(path, known, left_out)
    listed = splits is not None
    if not listed:
        left_out |= {name: doubt.line for name, doubt in doubtful.items() if doubt.is_sure}
        labelled = [s for s in labelled if s.name not in left_out]
    remarks = [doubt.line for name, doubt in doubtful.items() if name not in left_out]
    for line in left_out.values():
        log.warning("left out: %s", line)
    for line in remarks:
        log.warning("%s", line)
    if splits is None:
        rows = random_split(len(labelled), seed)
        splits = {split: [labelled[i] for i in rows[split]] for split in SPLITS}
    splits["unlabelled"] = [s for s in samples if s.dots is None]
    splits = {split: rows for split, rows in splits.items() if rows}
    if not splits.get("train"):
        raise FolderError(f"{folder / 'split.csv'}: no image is in the split train")
    return SplitDataset(
        name=path_text(folder.resolve().name),
        protocol="split.csv" if listed else "random",
        seed=seed,
        splits=splits,
        is_fallback=False,
        split_hash=_hash(splits),
        description=f"{folder}: {describe_sizes(splits)}",
        left_out=left_out,
        remarks=remarks,
    )


def random_split(n: int, seed: int) -> dict[str, list[int]]:
    """Indices of n labelled images in each split."""
    order = np.random.default_rng(seed).permutation(n).tolist()
    n_test = n // 5 if n >= 20 else 0
    n_validation = n // 10 if n >= 20 else 0
    return {
        "test": sorted(order[:n_test]),
        "validation": sorted(order[n_test : n_test + n_validation]),
        "train": sorted(order[n_test + n_validation :]),
    }


def _read_split(
    path: Path, samples: Mapping[str, Sample], left_out: Iterable[str]
) -> dict[str, list[Sample]] | None:
    if not path.exists():
        return None
    passed_over = {text for name in left_out for text in (name, stem(Path(name)))}
    by_stem = {stem(Path(name)): sample for name, sample in samples.items()}
    splits: dict[str, list[Sample]] = {split: [] for split in SPLITS}
    for number, row in csv_table.read_rows(path, "image", "split"):
        split, name = row["split"].lower(), row["image"]
        sample = samples.get(name) or by_stem.get(stem(Path(name)))
        if split not in SPLITS:
            known = ", ".join(SPLITS)
            raise FolderError(f"{path}, line {number}: split {split!r} is not one of {known}")
        if sample is None and (name in passed_over or stem(Path(name)) in passed_over):
            continue
        if sample is None:
            raise FolderError(f"{path}, line {number}: no image {name!r} in the folder")
        if sample.dots is None:
            raise FolderError(f"{path}, line {number}: {name!r} has no annotation file")
        splits[split].append(sample)
    return splits


def _hash(splits: Mapping[str, Sequence[Sample]]) -> str:
    lines = [f"{split}:{s.name}" for split in sorted(splits) for s in splits[split]]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]
