"""The page about a counter's errors on an annotated folder: one HTML file, images inside."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

import cellcount_jax
from cellcount_jax.evaluation.folder import names_in_training, write_table
from cellcount_jax.evaluation.image import GAME_LEVELS, OK, ImageEvaluation
from cellcount_jax.evaluation.summary import summarise_folder
from cellcount_jax.inference.counter import Counter
from cellcount_jax.io.images.image import read_image
from cellcount_jax.io.pairing import find_pairs
from cellcount_jax.prediction.remarks import remarks_of
from cellcount_jax.reporting import figures, html
from cellcount_jax.reporting.examples import example_overlays
from cellcount_jax.reporting.run_report import figures_of_counts
from cellcount_jax.reporting.verdict import in_words, terms
from cellcount_jax.runtime.path_text import path_text
from cellcount_jax.runtime.replace_file import write_file

MAX_LISTED = 200
"""Images in the page's last table; the CSV file has all."""

COUNT_COLUMNS = {
    **{"images": "n_images", "cells": "n_cells", "MAE": "mae", "RMSE": "rmse"},
    **{"MAPE (%)": "mape", "bias": "bias", "95 % from": "agreement_low", "to": "agreement_high"},
    **{f"GAME {level}": f"game_{level}" for level in GAME_LEVELS},
}
POINT_COLUMNS = {
    **{"F1": "f1", "precision": "precision", "recall": "recall", "F1, mean of images": "macro_f1"},
    **{"found": "tp", "false": "fp", "missed": "fn"},
}

CURVES = {
    "f1": ("F1", "#073b4c"),
    "precision": ("precision", "#118ab2"),
    "recall": ("recall", "#ef476f"),
}


def write_evaluation(
    counter: Counter,
    found: Iterable[ImageEvaluation],
    folder: Path,
    out: Path,
    **chosen: Any,
) -> dict[str, Any]:
    """Writes `evaluation.csv`, `evaluation.json` and `evaluation.html`.

    Args:
      counter: Counter that was evaluated.
      found: Records of `evaluate_folder`.
      folder: Folder that was evaluated.
      out: Folder, made if missing; files of an earlier evaluation are kept beside.
      **chosen: `channels`, `axes`, `scene` and `time` of `read_image`.

    Returns:
      The content of `evaluation.json`.

    Raises:
      ValueError: Nothing could be compared.
    """
    images = write_table(out / "evaluation.csv", found)
    summary = {
        "model": counter.name,
        "folder": str(folder),
        "version": cellcount_jax.__version__,
        "n_names_in_training": len(names_in_training(counter, images)),
        **summarise_folder(images),
        "remarks": [f"{image.name}: {remark}" for image in images for remark in image.remarks],
    }
    text = json.dumps(summary, indent=2, allow_nan=False) + "\n"
    write_file(out / "evaluation.json", text, keep=True)
    with remarks_of(folder, None):  # said when the folder was evaluated
        files = find_pairs(folder)[0]
    paths = {path_text(path.relative_to(folder).as_posix()): path for path in files}

    def read(image: ImageEvaluation) -> np.ndarray:
        with remarks_of(paths[image.name], None):
            return read_image(paths[image.name], **chosen).pixels

    examples = example_overlays(images, read)
    page = evaluation_page(images, summary, examples)
    write_file(out / "evaluation.html", page, keep=True)
    return summary


def one_line(summary: Mapping[str, Any]) -> str:
    """The main figures of an evaluation in one line."""
    text = f"{_number_of(summary)}: MAE {summary['mae']:.1f} cells per image"
    if summary["mape"] is not None:
        text += f" ({summary['mape']:.0f} %)"
    text += f", bias {summary['bias']:+.1f}"
    return text + (f", F1 {summary['f1']:.3f}" if "f1" in summary else "")


def evaluation_page(
    images: Sequence[ImageEvaluation], summary: Mapping[str, Any], examples: Mapping[str, Figure]
) -> str:
    """HTML of an evaluation.

    Args:
      images: Records from `evaluate_folder`.
      summary: Content of `evaluation.json`.
      examples: Images with found and true cells, by their titles.

    Returns:
      A self-contained page.
    """
    whole = [image for image in images if not image.roi]
    everything = {"all images": summary} | summary["groups"]
    return html.page(
        f"Errors on {summary['folder']}",
        [
            "<h1>Counts against the ground truth</h1>",
            html.note(
                f"{html.text(summary['folder'])}, model {html.text(summary['model'])}: "
                f"{_number_of(summary)}"
            ),
            _warning(summary["n_names_in_training"], len(whole)),
            "<h2>In short</h2>",
            html.listed(in_words(summary)),
            *_remarks(summary["remarks"]),
            "<h2>Counts</h2>",
            _table(everything, COUNT_COLUMNS, digits=2),
            terms(COUNT_COLUMNS),
            figures_of_counts([image for image in whole if image.status == OK], "image"),
            *_points(summary, everything),
            *_regions(summary.get("regions", {})),
            "<h2>Best, median and worst</h2>",
            html.note("Rings: annotated cells. Crosses: predicted points."),
            html.row(*(html.image(figure, alt=alt) for alt, figure in examples.items())),
            "<h2>Every image</h2>",
            _images_table(images),
        ],
    )


def over_radius(summary: Mapping[str, Any]) -> Figure:
    """Precision, recall and F1 against the matching radius."""
    figure, axes = figures.subplot(5.2, 3.6)
    radii = [one["factor"] * summary["radius"] for one in summary["over_radius"]]
    for key, (label, colour) in CURVES.items():
        values = [one[key] for one in summary["over_radius"]]
        axes.plot(radii, values, marker="o", markersize=3, color=colour, label=label)
    axes.axvline(summary["radius"], color="0.7", linewidth=1, zorder=0)
    axes.set(xlabel="matching radius (px)", ylabel="all images together", ylim=(0, 1.02))
    axes.legend(frameon=False, loc="lower right")
    return figure


def _number_of(summary: Mapping[str, Any]) -> str:
    text = f"{summary['n_images']} images with {summary['n_cells']} cells compared"
    if summary["n_without_dots"]:
        text += f", {summary['n_without_dots']} without annotations"
    return text + (f", {summary['n_failed']} failed" if summary["n_failed"] else "")


def _warning(known: int, n: int) -> str:
    if not known:
        return ""
    return (
        f"<p class=warning><b>{known} of the {n} images have the names of images that this model "
        "was trained on.</b> If they are the same images, errors on new ones are larger.</p>"
    )


def _remarks(remarks: Sequence[str]) -> list[str]:
    """What is doubtful about images and dots; nothing if nothing is."""
    if not remarks:
        return []
    rest = len(remarks) - MAX_LISTED
    more = [html.note(f"{rest} more in evaluation.csv.")] if rest > 0 else []
    return ["<h2>What is doubtful</h2>", html.listed(remarks[:MAX_LISTED]), *more]


def _table(
    parts: Mapping[str, Mapping[str, Any]], columns: Mapping[str, str], *, digits: int
) -> str:
    """A row of figures per named part of the images, without columns that have no value."""
    shown = {
        head: key
        for head, key in columns.items()
        if any(found.get(key) is not None for found in parts.values())
    }
    rows = [
        [html.text(name), *(html.number(found.get(key), digits) for key in shown.values())]
        for name, found in parts.items()
    ]
    return html.table(["", *shown], rows) if shown else ""


def _regions(parts: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Errors of each region over the images that have it; nothing without regions."""
    if not parts:
        return []
    return [
        "<h2>Regions</h2>",
        _table(parts, COUNT_COLUMNS, digits=2),
        _table(parts, POINT_COLUMNS, digits=3),
        html.note(
            "Figures of a region are over the images that have it; outside is what no region "
            "covers. Points and cells are matched across borders; a pair belongs to the region of "
            "the true cell."
        ),
    ]


def _points(summary: Mapping[str, Any], everything: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Matches of the points."""
    if "f1" not in summary:
        return ["<h2>Points</h2>", html.note("This method gives no points.")]
    return [
        f"<h2>Points within {summary['radius']:.1f} px of a cell, one to one</h2>",
        _table(everything, POINT_COLUMNS, digits=3),
        terms(POINT_COLUMNS),
        html.image(over_radius(summary), alt="precision, recall and F1 against matching radius"),
        html.note(
            "The radius is half a cell, as in the model's training. Where images are resized by "
            "the size of their cells it differs between them; the median is shown."
        ),
    ]


def _images_table(images: Sequence[ImageEvaluation]) -> str:
    """Failures first, then the largest errors."""
    order = sorted(images, key=lambda i: (not i.status.startswith("error"), -abs(i.error or 0.0)))
    head = ["image", "true", "predicted", "error", "status"]
    rows = [
        [
            html.text(f"{image.name}: {image.roi}" if image.roi else image.name),
            *(html.number(n, 2) for n in (image.true, image.predicted, image.error)),
            html.text(image.status),
        ]
        for image in order[:MAX_LISTED]
    ]
    rest = len(images) - len(rows)
    return html.table(head, rows) + (html.note(f"{rest} more in evaluation.csv.") if rest else "")
