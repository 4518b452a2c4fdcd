"""Formats of dot annotations: one table, one small file per format or family.

A new format is a reader, a writer, a test of its content, and one line in `FORMATS`. Nothing in
this room imports `io.annotations.dots`.
"""

import dataclasses
from collections.abc import Callable

from cellcount_jax.io.annotations import (
    base,
    cell_counter,
    coco,
    csv_points,
    geojson,
    imagej_roi,
    labelme,
    masks,
    text,
)


@dataclasses.dataclass(frozen=True)
class Format:
    """A format of dots.

    Attributes:
      claims: whether a file's content is of this format.
      read: dots of a file, in its own convention.
      write: bytes of a file.
      ending: the file name's ending for which `write` is meant without asking, or "".
    """

    claims: Callable[[base.Source], bool]
    read: Callable[[base.Source, base.Options], base.Found]
    write: Callable[[base.Dots, base.Options], bytes]
    ending: str = ""


# In the order in which they are tried: a special table comes before the plain one.
FORMATS: dict[str, Format] = {
    "roi": Format(imagej_roi.is_roi, imagej_roi.read_roi, imagej_roi.write_roi, ".roi"),
    "roi_zip": Format(imagej_roi.is_zip, imagej_roi.read_zip, imagej_roi.write_zip, ".zip"),
    "dots_image": Format(masks.is_dots_image, masks.read_dots_image, masks.write_dots_image),
    "label_mask": Format(masks.is_label_mask, masks.read_label_mask, masks.write_label_mask),
    "cell_counter": Format(
        cell_counter.is_cell_counter, cell_counter.read, cell_counter.write, ".xml"
    ),
    "geojson": Format(geojson.is_geojson, geojson.read, geojson.write, ".geojson"),
    "labelme": Format(labelme.is_labelme, labelme.read, labelme.write),
    "coco": Format(coco.is_coco, coco.read, coco.write),
    "napari": Format(csv_points.is_napari, csv_points.read, csv_points.write_napari),
    "spotiflow": Format(csv_points.is_spotiflow, csv_points.read, csv_points.write_spotiflow),
    "qupath_tsv": Format(
        csv_points.is_qupath, csv_points.read_qupath, csv_points.write_qupath, ".tsv"
    ),
    "csv": Format(csv_points.is_table, csv_points.read, csv_points.write, ".csv"),
}


def detect(source: base.Source) -> str:
    """Name of the format of a file, told by its content.

    Raises:
      ValueError: none fits; the message says what the file looks like.
    """
    if not source.data.strip():
        source.fail("is empty")
    for name, candidate in FORMATS.items():
        if candidate.claims(source):
            return name
    if source.once(text.kind) == "xml":
        root = base.quoted(cell_counter.root_tag(source))
        source.fail(f"is XML with the root {root}, not a Cell Counter file")
    source.fail("is JSON, but neither GeoJSON, nor LabelMe (shapes), nor COCO (annotations)")
