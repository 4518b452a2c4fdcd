"""Explanations as a page and as files: prototypes, their space, and images taken apart.

`explanation.html` holds everything shown, images inside; beside it lie `contributions.csv`,
`boxes.csv`, `gallery.png`, `space.png` and, for each image, the maps as TIFF.
"""

import csv
import dataclasses
import functools
import html
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from matplotlib.figure import Figure

from cellcount_jax.data.sample import Sample
from cellcount_jax.explanation import prototypes as explanations
from cellcount_jax.explanation.prototypes import Explanation, Prototypes
from cellcount_jax.inference.counter import Counter
from cellcount_jax.io.images.image import Image, read_image
from cellcount_jax.prediction.predict_files import output_names
from cellcount_jax.reporting import prototype_figures, run_report

log = logging.getLogger(__name__)

ROWS = ("image", "part", "group", "weight", "cells", "boxes")
BOXES = ("image", "part", "top", "left", "bottom", "right")


@dataclasses.dataclass(frozen=True)
class Subject:
    """An image to be explained.

    Attributes:
      name: of its files.
      read: gives the image; may raise ValueError or OSError.
      dots: [N, 2] true cells, if they are known.
    """

    name: str
    read: Callable[[], Image]
    dots: np.ndarray | None = None


def subjects_of_files(paths: Sequence[Path]) -> list[Subject]:
    """Images in files."""
    return [
        Subject(name, functools.partial(read_image, path))
        for path, name in zip(paths, output_names(paths), strict=True)
    ]


def subjects_of_samples(samples: Sequence[Sample]) -> list[Subject]:
    """Images of a data set, with their dots."""
    return [Subject(s.name, functools.partial(Image, s.image, s.spacing), s.dots) for s in samples]


def write_explanations(
    counter: Counter, subjects: Sequence[Subject], out: Path, *, model: str
) -> int:
    """Explains images into a folder.

    Args:
      counter: with prototypes, loaded from its run.
      subjects: images.
      out: folder, made if missing; its files are written anew.
      model: name of the model, for the page.

    Returns:
      Number of images that could not be explained; the page says why.

    Raises:
      ValueError: the counter has no prototypes.
    """
    prototypes = explanations.prototypes_of(counter)
    out.mkdir(parents=True, exist_ok=True)
    drawn = _draw_prototypes(counter, prototypes, out)
    sections, failed = [], 0
    with (
        (out / "contributions.csv").open("w", newline="", encoding="utf-8") as first,
        (out / "boxes.csv").open("w", newline="", encoding="utf-8") as second,
    ):
        rows, boxes = csv.DictWriter(first, ROWS), csv.DictWriter(second, BOXES)
        rows.writeheader()
        boxes.writeheader()
        for subject in subjects:
            try:
                image = subject.read()
                found = explanations.explain(counter, image.pixels, spacing=image.spacing)
            except (ValueError, OSError, MemoryError) as error:
                failed += 1
                line = " ".join(str(error).split()) or type(error).__name__
                log.error("%s: %s", subject.name, line)
                sections.append(_failure(subject.name, line))
                continue
            rows.writerows(_rows(subject.name, found, prototypes))
            boxes.writerows(_boxes(subject.name, found, prototypes))
            write_maps(out / "maps", subject.name, found, prototypes)
            sections.append(_section(subject, image, found, prototypes))
    text = _page(model, counter, prototypes, drawn, sections)
    (out / "explanation.html").write_text(text, encoding="utf-8")
    return failed


def _draw_prototypes(counter: Counter, prototypes: Prototypes, out: Path) -> dict[str, Figure]:
    drawn = {
        "gallery": prototype_figures.gallery(
            prototypes, counter.preprocessing, names=counter.facts.get("train_names")
        ),
        "space": prototype_figures.space(prototypes),
    }
    for name, figure in drawn.items():
        (out / f"{name}.png").write_bytes(run_report.png(figure, dpi=150))
    return drawn


def write_maps(folder: Path, name: str, found: Explanation, prototypes: Prototypes) -> None:
    """`NAME_similarity.tif` and `NAME_contribution.tif`, float32, a channel per prototype."""
    for kind in ("similarity", "contribution"):
        path = folder / f"{name}_{kind}.tif"
        path.parent.mkdir(parents=True, exist_ok=True)
        channels = np.moveaxis(getattr(found, kind), -1, 0).astype(np.float32)
        labels = {"axes": "CYX", "Labels": prototypes.names}
        tifffile.imwrite(path, channels, imagej=True, metadata=labels)


def _rows(name: str, found: Explanation, prototypes: Prototypes) -> list[dict[str, Any]]:
    return [
        {
            "image": name,
            **{k: "" if v is None else v for k, v in row.items()},
            "cells": f"{row['cells']:.4f}",
        }
        for row in explanations.table(found, prototypes)
    ]


def _boxes(name: str, found: Explanation, prototypes: Prototypes) -> list[dict[str, Any]]:
    return [
        dict(zip(BOXES, (name, part, *map(int, box)), strict=True))
        for part, boxes in zip(prototypes.names, found.boxes, strict=True)
        for box in boxes
    ]


def _page(
    model: str,
    counter: Counter,
    prototypes: Prototypes,
    drawn: dict[str, Figure],
    sections: Sequence[str],
) -> str:
    body = [
        "<h1>What the count is made of</h1>",
        f"<p class=note>model {html.escape(model)}, {len(prototypes.vectors)} prototypes, the "
        f"first {prototypes.n_cell} stand for cells; one position of a map is "
        f"{counter.stage.stride} pixels of the network's image</p>",
        "<h2>Prototypes</h2><p class=note>The training patches most similar to each; the frame is "
        "the position that is meant, what lies around it is there for orientation. Beside the "
        "name: cells that one unit of similarity (S, at most 9.21) at one position adds. Those "
        "that are not counted have no weight: they show what the network takes for ground.</p>",
        run_report.image(drawn["gallery"]),
        _origins(prototypes, counter.facts.get("train_names")),
        "<h2>Space of the features</h2><p class=note>Features of random training positions along "
        "the three directions in which they vary most, and the prototypes among them.</p>",
        run_report.image(drawn["space"]),
        *sections,
    ]
    return run_report.page(f"Explanation of {model}", "\n".join(body))


def _origins(prototypes: Prototypes, names: Sequence[str] | None) -> str:
    """Table of where each prototype was taken from; with the images' names where known."""
    places = prototypes.places
    rows = []
    for k, part in enumerate(prototypes.names):
        image = int(places["image"][k])
        if image < 0:
            rows.append([part, "no admissible place: not projected", "", ""])
            continue
        name = str(names[image]) if names else f"training image {image}"
        where = f"row {places['row'][k]}, column {places['column'][k]}"
        rows.append([part, html.escape(name), where, f"{places['distance'][k]:.4f}"])
    return run_report.table(
        ["prototype", "taken from", "position of the map", "moved (squared)"], rows
    )


def _section(subject: Subject, image: Image, found: Explanation, prototypes: Prototypes) -> str:
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
    return "\n".join(
        [
            f"<h2>{html.escape(subject.name)}</h2>",
            f"<p>{found.count:.1f} cells{truth}. Boxes: each prototype's strongest places "
            "(green: cell prototypes, orange: background prototypes; rings, where known: annotated "
            "cells).</p><div class=row>",
            run_report.image(
                prototype_figures.boxes(image.pixels, found, prototypes, dots=subject.dots)
            ),
            "<div>",
            run_report.table(["", "weight", "cells", "boxes"], rows),
            "<p class=note>Each position counts weight times similarity,<br>summed, plus the bias. "
            "Empty places resemble<br>all of them a little; a negative bias takes that back.</p>",
            "</div></div>",
            run_report.image(prototype_figures.maps(image.pixels, found, prototypes)),
        ]
    )


def _failure(name: str, line: str) -> str:
    return f"<h2>{html.escape(name)}</h2><p class=warning>error: {html.escape(line)}</p>"
