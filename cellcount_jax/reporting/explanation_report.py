"""Explanations as a page and as files: prototypes, their space, and contributions per image.

`explanation.html` holds everything shown, images inside; beside it lie `contributions.csv`,
`boxes.csv`, `gallery.png`, `space.png` and, for each image, the maps as TIFF.
"""

import csv
import functools
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tifffile

from cellcount_jax.data.sample import Sample
from cellcount_jax.explanation import prototypes as explanations
from cellcount_jax.explanation.prototypes import Explanation
from cellcount_jax.inference.counter import Counter
from cellcount_jax.io.images.image import Image, read_image
from cellcount_jax.methods.base import Prototypes
from cellcount_jax.prediction.writers import output_names
from cellcount_jax.reporting import figures, html, prototype_figures
from cellcount_jax.runtime.error_text import one_line
from cellcount_jax.runtime.path_text import path_text
from cellcount_jax.runtime.replace_file import replacing, write_file

log = logging.getLogger(__name__)

CONTRIBUTION_COLUMNS = ("image", "part", "group", "weight", "cells", "boxes")
BOX_COLUMNS = ("image", "part", "top", "left", "bottom", "right")


class Subject(NamedTuple):
    """An image to be explained.

    Attributes:
      name: Name of its files.
      read: Gives the image; may raise ValueError or OSError.
      dots: [N, 2] true cells, if they are known.
    """

    name: str
    read: Callable[[], Image]
    dots: np.ndarray | None = None


def subjects_of_files(paths: Sequence[Path]) -> list[Subject]:
    """Images in files."""
    return [
        Subject(path_text(name), functools.partial(read_image, path))
        for path, name in zip(paths, output_names(paths), strict=True)
    ]


def subjects_of_samples(samples: Sequence[Sample]) -> list[Subject]:
    """Images of a dataset, with their dots."""
    return [Subject(s.name, functools.partial(Image, s.image, s.spacing), s.dots) for s in samples]


def write_explanations(counter: Counter, subjects: Sequence[Subject], out: Path) -> int:
    """Explains images into a folder.

    Args:
      counter: Counter with prototypes.
      subjects: Images to explain.
      out: Folder, made if missing; its files are overwritten.

    Returns:
      Number of images that could not be explained; the page says why.

    Raises:
      ValueError: The counter has no prototypes.
    """
    prototypes = explanations.prototypes_of(counter)
    out.mkdir(parents=True, exist_ok=True)
    contributions, boxes, failed = [], [], 0
    body = [
        "<h1>What the count is made of</h1>",
        html.note(
            f"model {html.text(counter.name)}, {len(prototypes.vectors)} prototypes, the first "
            f"{prototypes.n_cell} stand for cells; one position of a map is {prototypes.stride} "
            "pixels of the network's image"
        ),
        *_prototypes_section(counter, prototypes, out),
    ]
    for subject in subjects:
        try:
            image = subject.read()
            found = explanations.explain(counter, image.pixels, spacing=image.spacing)
            write_maps(out / "maps", subject.name, found, prototypes)
        except (ValueError, OSError, MemoryError) as error:
            failed += 1
            line = one_line(error)
            log.error("%s: %s", subject.name, line)
            body.append(f"<h2>{html.text(subject.name)}</h2>")
            body.append(f"<p class=warning>error: {html.text(line)}</p>")
            continue
        rows = explanations.table(found, prototypes)
        contributions += [_cells(subject.name, row) for row in rows]
        for part, corners in zip(prototypes.names, found.boxes, strict=True):
            boxes += [(subject.name, part, *box) for box in corners.tolist()]
        body += _section(subject, image, found, prototypes)
    _write_csv(out / "contributions.csv", CONTRIBUTION_COLUMNS, contributions)
    _write_csv(out / "boxes.csv", BOX_COLUMNS, boxes)
    page = html.page(f"Explanation of {counter.name}", body)
    write_file(out / "explanation.html", page, keep=True)
    return failed


def write_maps(folder: Path, name: str, found: Explanation, prototypes: Prototypes) -> None:
    """`NAME_similarity.tif` and `NAME_contribution.tif`, float32, a channel per prototype."""
    for kind in ("similarity", "contribution"):
        path = folder / f"{name}_{kind}.tif"
        path.parent.mkdir(parents=True, exist_ok=True)
        channels = np.moveaxis(getattr(found, kind), -1, 0).astype(np.float32)
        labels = {"axes": "CYX", "Labels": prototypes.names}
        with replacing(path, "wb") as file:
            tifffile.imwrite(file, channels, imagej=True, metadata=labels)


def _write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    with replacing(path, keep=True, newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([columns, *rows])


def _cells(name: str, row: Mapping[str, Any]) -> list[Any]:
    """A row of `contributions.csv`; None is written as an empty cell."""
    shown = {**row, "image": name, "cells": f"{row['cells']:.4f}"}
    return [shown[column] for column in CONTRIBUTION_COLUMNS]


def _prototypes_section(counter: Counter, prototypes: Prototypes, out: Path) -> list[str]:
    """The prototypes and their space, whose figures are also written as files."""
    names = counter.facts.get("train_names")
    gallery = prototype_figures.gallery(prototypes, counter.preprocessing, names=names)
    space = prototype_figures.space(prototypes)
    for name, figure in (("gallery", gallery), ("space", space)):
        write_file(out / f"{name}.png", figures.png(figure, dpi=150))
    return [
        "<h2>Prototypes</h2>",
        html.note(
            "The training patches most similar to each; the frame marks the position that is "
            "meant, what lies around it is there for orientation. Beside the name: cells that one "
            "unit of similarity (S, at most 9.21) at one position adds. Prototypes that are not "
            "counted have no weight: they show what the network takes for background."
        ),
        html.image(gallery, alt="training patches most similar to each prototype"),
        _provenance_table(prototypes, names),
        "<h2>Space of the features</h2>",
        html.note(
            "Features of random training positions along the three directions in which they vary "
            "most, and the prototypes among them."
        ),
        html.image(space, alt="training features and prototypes along three principal directions"),
    ]


def _provenance_table(prototypes: Prototypes, names: Sequence[str] | None) -> str:
    """Where each prototype was taken from; with the images' names if they are known."""
    places = prototypes.provenance
    rows = []
    for k, part in enumerate(prototypes.names):
        image = int(places["image"][k])
        if image < 0:
            rows.append([part, "no admissible position: not projected", "", ""])
            continue
        name = html.text(names[image]) if names else f"training image {image}"
        where = f"row {places['row'][k]}, column {places['column'][k]}"
        rows.append([part, name, where, f"{places['distance'][k]:.4f}"])
    return html.table(["prototype", "taken from", "position of the map", "moved (squared)"], rows)


def _section(
    subject: Subject, image: Image, found: Explanation, prototypes: Prototypes
) -> list[str]:
    truth = "" if subject.dots is None else f", {len(subject.dots)} annotated"
    rows = [
        [
            row["part"],
            f"{row['weight']:+.4f}" if row["weight"] else "",
            "not counted" if row["weight"] == 0 else f"{row['cells']:+.2f}",
            "" if row["boxes"] is None else str(row["boxes"]),
        ]
        for row in explanations.table(found, prototypes)
    ]
    boxes = prototype_figures.boxes(image.pixels, found, prototypes, dots=subject.dots)
    maps = prototype_figures.maps(image.pixels, found, prototypes)
    return [
        f"<h2>{html.text(subject.name)}</h2>",
        f"<p>{found.count:.1f} cells{truth}. Boxes: each prototype's strongest positions (green: "
        "cell prototypes, orange: background prototypes; rings, if known: annotated cells).</p>",
        html.row(
            html.image(boxes, alt=f"{subject.name} with the boxes of all prototypes"),
            "<div>",
            html.table(["", "weight", "cells", "boxes"], rows),
            html.note(
                "Each position counts weight times similarity,<br>summed, plus the bias. Empty "
                "areas are slightly<br>similar to every prototype; the negative bias compensates."
            ),
            "</div>",
        ),
        html.image(maps, alt=f"similarity and contribution maps of {subject.name}"),
    ]
