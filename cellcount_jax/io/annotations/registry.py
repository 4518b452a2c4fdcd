"""The table of formats of dot annotations.

A new format is a file with a reader, a writer and a test of the content, and one line in `FORMATS`.
"""

import dataclasses
from collections.abc import Callable

from cellcount_jax.io.annotations import (
    base,
    cell_counter,
    csv_points,
    geojson,
    imagej_roi,
    labelme_coco,
    masks,
)


@dataclasses.dataclass(frozen=True)
class Format:
    """A format of dots.

    Attributes:
      kind: Kind of its files.
      read: Dots of a file, in its own convention.
      write: Bytes of a file.
      claims: Whether a file of this kind is of this format.
      extension: File suffix for which `write` is the default, or "".
    """

    kind: base.Kind
    read: Callable[[base.AnnotationFile, base.Options], base.RawDots]
    write: Callable[[base.Dots, base.Options], bytes]
    claims: Callable[[base.AnnotationFile], bool] = lambda file: True
    extension: str = ""


def _is_image_of(name: str) -> Callable[[base.AnnotationFile], bool]:
    return lambda file: file.once(masks.detect) == name


# In the order of detection: special tables come before the plain one.
FORMATS: dict[str, Format] = {
    "roi": Format("roi", imagej_roi.read, imagej_roi.write_roi, extension=".roi"),
    "roi_zip": Format("zip", imagej_roi.read, imagej_roi.write_zip, extension=".zip"),
    "dots_image": Format(
        "image", masks.read_dots_image, masks.write_dots_image, _is_image_of("dots_image")
    ),
    "label_mask": Format(
        "image", masks.read_label_mask, masks.write_label_mask, _is_image_of("label_mask")
    ),
    "cell_counter": Format(
        "xml", cell_counter.read, cell_counter.write, cell_counter.is_cell_counter, ".xml"
    ),
    "geojson": Format("json", geojson.read, geojson.write, geojson.is_geojson, ".geojson"),
    "labelme": Format(
        "json", labelme_coco.read_labelme, labelme_coco.write_labelme, labelme_coco.is_labelme
    ),
    "coco": Format("json", labelme_coco.read_coco, labelme_coco.write_coco, labelme_coco.is_coco),
    "napari": Format("table", csv_points.read, csv_points.write_napari, csv_points.is_napari),
    "spotiflow": Format(
        "table", csv_points.read, csv_points.write_spotiflow, csv_points.is_spotiflow
    ),
    "qupath_tsv": Format(
        "table", csv_points.read_qupath, csv_points.write_qupath, csv_points.is_qupath, ".tsv"
    ),
    "csv": Format("table", csv_points.read, csv_points.write, extension=".csv"),
}


def detect(file: base.AnnotationFile) -> str:
    """Name of the format of a file, detected from its content.

    Raises:
      ValueError: It is none of these; the message says what the file looks like.
    """
    if not file.data.strip():
        file.fail("is empty")
    for name, format in FORMATS.items():
        if format.kind == file.kind and format.claims(file):
            return name
    if file.kind == "xml":
        root = base.quoted(cell_counter.root_tag(file))
        file.fail(f"is XML with the root {root}, not a Cell Counter file")
    file.fail("is JSON, but neither GeoJSON, nor LabelMe (shapes), nor COCO (annotations)")
