"""The page about a counter's errors on a folder with truth: one HTML file, images inside."""

import html
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

import cellcount_jax
from cellcount_jax.evaluation.folder import evaluate_folder, names_in_training, write_table
from cellcount_jax.evaluation.summary import LEVELS, OK, Row, summarise
from cellcount_jax.inference.counter import Counter
from cellcount_jax.io.images.image import read_image
from cellcount_jax.reporting import figures, run_report

LISTED = 200
"""Images in the page's last table; the CSV file holds all."""

CURVES = {
    "f1": ("F1", "#073b4c"),
    "precision": ("precision", "#118ab2"),
    "recall": ("recall", "#ef476f"),
}


def write_evaluation(
    counter: Counter,
    folder: Path,
    out: Path,
    *,
    model: str,
    radius: float | None = None,
    diameter: float | None = None,
    channels: Sequence[int | str] | None = None,
    regions: Path | None = None,
) -> dict[str, Any]:
    """Compares into `evaluation.csv`, `evaluation.json` and `evaluation.html`.

    Args:
      counter: trained.
      folder: images with annotations.
      out: folder, made if missing; its files are written anew.
      model: name of the model, for the page.
      radius: as in `evaluate_folder`, like all that follows.
      diameter: of the cells in pixels.
      channels: of the images.
      regions: of the images.

    Returns:
      The content of `evaluation.json`.

    Raises:
      ValueError: nothing could be compared.
    """
    found = evaluate_folder(
        counter, folder, radius=radius, diameter=diameter, channels=channels, regions=regions
    )
    rows = write_table(out / "evaluation.csv", found)
    known = len(names_in_training(counter, rows))
    summary = {
        "model": model,
        "folder": str(folder),
        "version": cellcount_jax.__version__,
        "n_names_in_training": known,
        **summarise(rows),
    }
    text = json.dumps(summary, indent=2, allow_nan=False) + "\n"
    (out / "evaluation.json").write_text(text, encoding="utf-8")
    drawn = []
    for word, row in examples(rows).items():
        pixels = read_image(folder / row.image, channels=channels).pixels
        name = figures.shortened(Path(row.image).name)
        title = f"{word}: {name}\ntrue {row.true}, predicted {row.predicted:.1f}"
        drawn.append(figures.overlay(pixels, row.points, dots=row.dots, title=title, width=3.0))
    page = evaluation_page(rows, summary, drawn)
    (out / "evaluation.html").write_text(page, encoding="utf-8")
    return summary


def one_line(summary: Mapping[str, Any]) -> str:
    """What a person wants to know first."""
    text = f"{_number_of(summary)}: off by {summary['mae']:.1f} cells an image on average"
    if summary["mape"] is not None:
        text += f" ({summary['mape']:.0f} %)"
    text += f", bias {summary['bias']:+.1f}"
    return text + (f", F1 {summary['f1']:.3f}" if "f1" in summary else "")


def evaluation_page(
    rows: Sequence[Row], summary: Mapping[str, Any], drawn: Sequence[Figure] = ()
) -> str:
    """HTML of an evaluation.

    Args:
      rows: of `evaluation.folder`.
      summary: content of `evaluation.json`.
      drawn: images with found and true cells.

    Returns:
      A self-contained page.
    """
    good = [r for r in rows if r.status == OK and not r.roi]
    predicted = np.array([r.predicted for r in good], float)
    true = np.array([r.true for r in good], float)
    parts = [
        "<h1>Counts against the truth</h1>",
        f"<p class=note>{_text(summary['folder'])}, model {_text(summary['model'])}: "
        f"{_number_of(summary)}</p>",
        _warning(summary["n_names_in_training"], sum(not row.roi for row in rows)),
        "<h2>Counts</h2>",
        _counts_table({"all images": summary} | summary["groups"]),
        _GAME_NOTE,
        "<div class=row>",
        run_report.image(figures.predicted_against_true(predicted, true, "image")),
        run_report.image(figures.limits_of_agreement(predicted, true, "image")),
        "</div>",
        _places(summary),
        _regions(summary),
        "<h2>Best, median and worst</h2><p class=note>Rings: annotated cells. Crosses: found "
        "ones.</p><div class=row>",
        *(run_report.image(figure) for figure in drawn),
        "</div><h2>Every image</h2>",
        _rows_table(rows),
    ]
    return run_report.page(f"Errors on {summary['folder']}", "\n".join(parts))


def examples(rows: Sequence[Row]) -> dict[str, Row]:
    """The rows of least, median and largest error, by what they are; none twice."""
    whole = [r for r in rows if r.status == OK and not r.roi]
    good = sorted(whole, key=lambda r: abs(r.error or 0.0))
    words: dict[int, str] = {}
    for i, word in ((0, "best"), (len(good) - 1, "worst"), (len(good) // 2, "median")):
        words.setdefault(i, word)
    return {words[i]: good[i] for i in sorted(words)}


def over_radius(summary: Mapping[str, Any]) -> Figure:
    """Precision, recall and F1 against the matching radius."""
    figure = Figure(figsize=(5.2, 3.6), layout="constrained")
    axes = figure.add_subplot()
    radii = [one["factor"] * summary["radius_px"] for one in summary["over_radius"]]
    for key, (label, colour) in CURVES.items():
        values = [one[key] for one in summary["over_radius"]]
        axes.plot(radii, values, marker="o", markersize=3, color=colour, label=label)
    axes.axvline(summary["radius_px"], color="0.7", linewidth=1, zorder=0)
    axes.set(xlabel="matching radius (px)", ylabel="all images together", ylim=(0, 1.02))
    axes.legend(frameon=False, loc="lower right")
    return figure


def _text(value: Any) -> str:
    return html.escape(str(value))


def _shown(value: Any, digits: int = 2) -> str:
    if value is None:
        return "-"
    return f"{value:.{digits}f}" if isinstance(value, float) else _text(value)


def _number_of(summary: Mapping[str, Any]) -> str:
    text = f"{summary['n_images']} images with {summary['n_cells']} cells compared"
    if summary["n_without_dots"]:
        text += f", {summary['n_without_dots']} without annotations"
    return text + (f", {summary['n_failed']} failed" if summary["n_failed"] else "")


def _warning(known: int, n: int) -> str:
    if not known:
        return ""
    return (
        f"<p class=warning><b>{known} of the {n} images bear the names of images that trained "
        "this model.</b> If they are the same, errors on them are smaller than on new ones.</p>"
    )


def _counts_table(parts: Mapping[str, Mapping[str, Any]]) -> str:
    """Errors of named parts of the rows."""
    head = ["", "images", "cells", "MAE", "RMSE", "MAPE (%)", "bias", "95 % of differences"]
    levels = [n for n in LEVELS if any(found[f"game{n}"] is not None for found in parts.values())]
    rows = []
    for name, found in parts.items():
        limits = "-"
        if found["agreement_low"] is not None:
            limits = f"{found['agreement_low']:+.1f} to {found['agreement_high']:+.1f}"
        values = [found[key] for key in ("n_images", "n_cells", "mae", "rmse", "mape", "bias")]
        games = [_shown(found[f"game{level}"]) for level in levels]
        rows.append([_text(name), *(_shown(v) for v in values), limits, *games])
    return run_report.table([*head, *(f"GAME {level}" for level in levels)], rows)


_GAME_NOTE = (
    "<p class=note>Errors are in cells per image; bias is predicted minus true. GAME sums "
    "the errors of 1, 4, 16 and 64 parts of each image (in a volume 1, 8, 64 and 512), so "
    "that a cell counted in the wrong place shows.</p>"
)


def _regions(summary: Mapping[str, Any]) -> str:
    """Errors of each region over the images that have it; nothing without regions."""
    parts = summary.get("regions", {})
    if not parts:
        return ""
    return "\n".join(
        [
            "<h2>Regions</h2>",
            _counts_table(parts),
            _places_table(parts),
            "<p class=note>Of each region over the images that have it; outside is what no "
            "region covers. A found cell and its true one are matched across borders and belong "
            "to the region of the true one.</p>",
        ]
    )


def _places(summary: Mapping[str, Any]) -> str:
    if "f1" not in summary:
        return "<h2>Points</h2><p class=note>This method gives no points.</p>"
    return "\n".join(
        [
            f"<h2>Points within {summary['radius_px']:.1f} px of a cell, one to one</h2>",
            _places_table({"all images": summary} | summary["groups"]),
            run_report.image(over_radius(summary)),
            "<p class=note>The radius is half a cell, as the model was trained; where images are "
            "resized by the size of their cells it differs between them, and the median is "
            "shown.</p>",
        ]
    )


def _places_table(parts: Mapping[str, Mapping[str, Any]]) -> str:
    """Matches of named parts of the rows; nothing where there are no points."""
    head = ["", "F1", "precision", "recall", "F1, mean of images", "found", "false", "missed"]
    keys = ("f1", "precision", "recall", "macro_f1", "tp", "fp", "fn")
    rows = [
        [_text(name), *(_shown(found[key], 3) for key in keys)]
        for name, found in parts.items()
        if "f1" in found
    ]
    return run_report.table(head, rows) if rows else ""


def _rows_table(rows: Sequence[Row]) -> str:
    """Failures first, then the largest errors."""
    order = sorted(rows, key=lambda r: (not r.status.startswith("error"), -abs(r.error or 0.0)))
    head = ["image", "true", "predicted", "error", "status"]
    cells = [
        [_text(_name(r)), _shown(r.true), _shown(r.predicted), _shown(r.error), _text(r.status)]
        for r in order[:LISTED]
    ]
    rest = len(rows) - len(cells)
    note = f"<p class=note>{rest} more in evaluation.csv.</p>" if rest else ""
    return run_report.table(head, cells) + note


def _name(row: Row) -> str:
    return f"{row.image}: {row.roi}" if row.roi else row.image
