"""Formats of dot annotations: one table, one small file per format or family.

A new format is a reader, a writer, a test of its content, and one line in `FORMATS`. Nothing in
this room imports `data.dots`.
"""

import dataclasses
from collections.abc import Callable

from cellcount_jax.data.formats import (
    cell_counter,
    coco,
    geojson,
    imagej,
    labelme,
    picture,
    points_table,
    record,
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

    claims: Callable[[record.Source], bool]
    read: Callable[[record.Source, record.Options], record.Found]
    write: Callable[[record.Dots, record.Options], bytes]
    ending: str = ""


# In the order in which they are tried: a special table comes before the plain one.
FORMATS: dict[str, Format] = {
    "roi": Format(imagej.is_roi, imagej.read_roi, imagej.write_roi, ".roi"),
    "roi_zip": Format(imagej.is_zip, imagej.read_zip, imagej.write_zip, ".zip"),
    "dots_image": Format(picture.is_dots_image, picture.read_dots_image, picture.write_dots_image),
    "label_mask": Format(picture.is_label_mask, picture.read_label_mask, picture.write_label_mask),
    "cell_counter": Format(
        cell_counter.is_cell_counter, cell_counter.read, cell_counter.write, ".xml"
    ),
    "geojson": Format(geojson.is_geojson, geojson.read, geojson.write, ".geojson"),
    "labelme": Format(labelme.is_labelme, labelme.read, labelme.write),
    "coco": Format(coco.is_coco, coco.read, coco.write),
    "napari": Format(points_table.is_napari, points_table.read, points_table.write_napari),
    "spotiflow": Format(points_table.is_spotiflow, points_table.read, points_table.write_spotiflow),
    "qupath_tsv": Format(
        points_table.is_qupath, points_table.read_qupath, points_table.write_qupath, ".tsv"
    ),
    "csv": Format(points_table.is_table, points_table.read, points_table.write, ".csv"),
}


def detect(source: record.Source) -> str:
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
        root = record.quoted(cell_counter.root_tag(source))
        source.fail(f"is XML with the root {root}, not a Cell Counter file")
    source.fail("is JSON, but neither GeoJSON, nor LabelMe (shapes), nor COCO (annotations)")
