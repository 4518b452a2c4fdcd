"""Which annotation file belongs to which image, by their names.

Two files belong together when they have the same stem. What annotation tools add to it
(`CellCounter_a.xml`, `a_RoiSet.zip`, `a_masks.tif`, `a_seg.npy`, `a_dots.png`, `a-points.tsv` for
`a.tif`) is ignored.
"""

import re
from pathlib import Path

from cellcount_jax.io.images.find import list_images

ANNOTATION_ENDINGS = (
    ".csv", ".tsv", ".txt", ".roi", ".zip", ".xml", ".geojson", ".json", ".npy", ".png", ".tif",
    ".tiff", ".bmp", ".gif",
)  # fmt: skip

_DOUBLE_ENDINGS = (".ome.tif", ".ome.tiff", ".ome.zarr", ".zarr", ".tar.gz")
_TOOL_AFFIX = re.compile(
    r"^(cellcounter_)|([_.\- ](dots|points|masks?|labels?|seg|roiset|rois?|cp_masks))$", re.I
)


class FolderError(ValueError):
    """A folder cannot be used; one line says what to do."""


def stem(path: Path) -> str:
    """Name of a file in lower case, without its ending and what annotation tools add."""
    name = path.name.lower()
    double = next((ending for ending in _DOUBLE_ENDINGS if name.endswith(ending)), "")
    return _TOOL_AFFIX.sub("", name.removesuffix(double) if double else path.stem.lower())


def find_pairs(folder: Path) -> tuple[list[Path], dict[Path, Path]]:
    """Images of a folder and, for those that have one, their annotation file.

    Args:
      folder: with images in `images/` or directly in it, annotations in `dots/` or beside the
        images.

    Returns:
      All images, and image -> annotation file.

    Raises:
      FolderError: the folder is missing or holds no images, or two files annotate one image.
    """
    if not folder.is_dir():
        raise FolderError(f"{folder}: no such folder")
    root = folder / "images" if (folder / "images").is_dir() else folder
    annotations = folder / "dots" if (folder / "dots").is_dir() else root
    by_stem: dict[str, list[Path]] = {}
    for path in sorted(annotations.iterdir()):
        if path.suffix.lower() in ANNOTATION_ENDINGS and not path.name.startswith("."):
            by_stem.setdefault(stem(path), []).append(path)
    images = [p for p in list_images([root]) if not _is_annotation(p, root)]
    if not images:
        raise FolderError(f"{folder}: no images found; put them in {folder / 'images'}")
    pairs = {}
    for image in images:
        found = [path for path in by_stem.get(stem(image), []) if path != image]
        if len(found) > 1:
            names = ", ".join(path.name for path in found)
            raise FolderError(f"{image}: more than one annotation file ({names}); keep one")
        if found:
            pairs[image] = found[0]
    return images, pairs


def _is_annotation(path: Path, root: Path) -> bool:
    """Whether an image file beside the images is itself an annotation, by its name."""
    bare = path.stem.lower()
    return path.parent == root and stem(path) != bare and _TOOL_AFFIX.search(bare) is not None
