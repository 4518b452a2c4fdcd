"""Which annotation file belongs to which image, by their names.

An annotation file is named like its image, with or without the image's extension: `a.csv`,
`a.tif.csv` or, for `a.ome.tif`, `a.ome.csv`. What annotation tools add (`CellCounter_a.xml`,
`a_RoiSet.zip`, `a_masks.tif`, `a_seg.npy`, `a_dots.png`, `a-points.tsv`) is ignored where no image
has the longer name. Pairs are one to one; what could belong to two is an error.
"""

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from cellcount_jax.io.images.find import list_images

log = logging.getLogger(__name__)

ANNOTATION_EXTENSIONS = (
    ".csv", ".tsv", ".txt", ".roi", ".zip", ".xml", ".geojson", ".json", ".npy", ".png", ".tif",
    ".tiff", ".bmp", ".gif",
)  # fmt: skip

N_NAMES_IN_MESSAGE = 5

_DOUBLE_EXTENSIONS = (".ome.tif", ".ome.tiff", ".ome.tf2", ".ome.btf", ".ome.zarr", ".tar.gz")
_TOOL_AFFIX = re.compile(
    r"^(cellcounter_)|([_.\- ](dots|points|(cp_)?masks?|labels?|seg|roiset|rois?))$", re.I
)
_IMAGE_AFFIX = re.compile(
    r"[_.\- ](dots|points|(cp_)?(masks?|outlines?|flows?)|labels?|seg|overlay)$", re.I
)
"""Ends of the names of files that tools write beside an image: masks and drawings of it. Images
themselves are often called ROI."""


class FolderError(ValueError):
    """A folder cannot be used; one line says what to do."""


def stem(path: Path) -> str:
    """Name of a file in lower case, without its extension and what annotation tools add."""
    return _TOOL_AFFIX.sub("", _bare(path))


def find_pairs(folder: Path) -> tuple[list[Path], dict[Path, Path]]:
    """Images of a folder and, for those that have one, their annotation file.

    Annotation files that fit no image are named in the log.

    Args:
      folder: Folder with images in `images/` or directly in it, annotations in `dots/` or beside
        the images.

    Returns:
      All images, and image -> annotation file.

    Raises:
      FolderError: The folder is missing or holds no images, two files annotate one image, or one
        file could annotate two.
    """
    if not folder.is_dir():
        raise FolderError(f"{folder}: no such folder")
    root = folder / "images" if (folder / "images").is_dir() else folder
    dots = folder / "dots"
    found = [p for p in list_images([root]) if dots not in p.parents]
    images = without_annotations(found)
    if not images:
        raise FolderError(f"{folder}: no images found; put them in {folder / 'images'}")
    given = set(images)
    places = (dots, root) if dots.is_dir() else (root,)
    annotations = [p for place in places for p in _annotations(place) if p not in given]
    pairs = pair(images, annotations)
    if unused := unpaired_dots(folder, pairs):
        log.warning("%s: no image fits %s", dots, _listed(unused))
    return images, pairs


def unpaired_dots(folder: Path, pairs: Mapping[Path, Path]) -> list[Path]:
    """Files in `dots/` of a folder that fit none of its images.

    Files beside the images are left out: they need not be annotations.

    Args:
      folder: As for `find_pairs`.
      pairs: The pairs that it found.
    """
    dots, used = folder / "dots", set(pairs.values())
    return [p for p in _annotations(dots) if p not in used] if dots.is_dir() else []


def marked_files(folder: Path, images: Sequence[Path]) -> dict[Path, Path]:
    """Image -> its file in `not_cells/` of a folder, for images that have one.

    Raises:
      FolderError: Two files belong to one image, or one could belong to two.
    """
    place = folder / "not_cells"
    files = _annotations(place) if place.is_dir() else []
    pairs = pair(images, files)
    if unused := sorted(set(files) - set(pairs.values())):
        log.warning("%s: no image fits %s", place, _listed(unused))
    return pairs


def _annotations(place: Path) -> list[Path]:
    """Files of a folder that may hold dots, by their extensions."""
    every = sorted(place.iterdir())
    return [p for p in every if p.suffix.lower() in ANNOTATION_EXTENSIONS and p.name[0] != "."]


def pair(images: Sequence[Path], annotations: Sequence[Path]) -> dict[Path, Path]:
    """Image -> its annotation file, one to one.

    Raises:
      FolderError: Two files annotate one image, or one file could annotate two.
    """
    names = {p: {p.name.lower(), p.stem.lower(), _bare(p)} for p in images}
    exact = {a: [p for p in images if a.stem.lower() in names[p]] for a in annotations}
    by_tool = {a: [p for p in images if stem(a) in names[p]] for a in annotations if not exact[a]}
    pairs: dict[Path, Path] = {}
    for annotation, found in {**exact, **by_tool}.items():
        if len({p.name.lower() for p in found}) > 1:
            raise FolderError(
                f"{annotation}: could annotate {_listed(found)}; name it after one of them with "
                f"its extension, such as {found[0].name}{annotation.suffix}"
            )
        if len(found) > 1:
            log.warning(
                "%s: fits images of this name in %d sub-folders, and is taken for each",
                *(annotation, len(found)),
            )
        for image in found:
            if image in pairs:
                both = _listed([pairs[image], annotation])
                raise FolderError(f"{image}: more than one annotation file ({both}); keep one")
            pairs[image] = annotation
    return pairs


def without_annotations(images: Iterable[Path]) -> list[Path]:
    """The images without those that are, by their names, masks or drawings of another one."""
    listed = list(images)
    names = {(p.parent, _bare(p)) for p in listed}

    def is_derived(path: Path) -> bool:
        shorter = _IMAGE_AFFIX.sub("", _bare(path))
        return shorter != _bare(path) and (path.parent, shorter) in names

    return [p for p in listed if not is_derived(p)]


def _bare(path: Path) -> str:
    """Name in lower case without its extension, of which some have two parts."""
    name = path.name.lower()
    double = next((extension for extension in _DOUBLE_EXTENSIONS if name.endswith(extension)), "")
    return name.removesuffix(double) if double else path.stem.lower()


def _listed(paths: Sequence[Path]) -> str:
    names = [p.name for p in paths[:N_NAMES_IN_MESSAGE]]
    more = len(paths) - len(names)
    return ", ".join(names) + (f" and {more} more" if more else "")
