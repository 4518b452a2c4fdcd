"""The page about a run: one HTML file with its images inside."""

import base64
import html
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from cellcount_jax.evaluation.evaluate import Evaluation
from cellcount_jax.reporting import figures

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1d2433; max-width: 1080px; margin: 2em auto;
  padding: 0 1em }
h1 { font-size: 1.6em; margin-bottom: 0 } h2 { font-size: 1.15em; margin-top: 2em }
table { border-collapse: collapse } td, th { padding: .25em .9em .25em 0; text-align: left }
th { font-weight: 600; border-bottom: 1px solid #ccd } td.n { text-align: right;
  font-variant-numeric: tabular-nums }
.row { display: flex; flex-wrap: wrap; gap: 1em; align-items: flex-start }
img { max-width: 100% } .note { color: #667 }
.warning { background: #fff3cd; border: 1px solid #e0b400; padding: .7em 1em; border-radius: 4px }
"""


def run_report(
    results: Mapping[str, Any], evaluation: Evaluation, metrics: Sequence[Mapping[str, Any]]
) -> str:
    """HTML of a finished run.

    Args:
      results: what goes into `results.json`.
      evaluation: counts of the part that is evaluated.
      metrics: lines of `metrics.jsonl`.

    Returns:
      A self-contained page.
    """
    predicted = np.array([c.count for c in evaluation.counts])
    true = np.array([s.count for s in evaluation.samples], float)
    unit = "patch" if "patch_mae" in results else "image"
    part = _text(results["split"])
    stages = list(dict.fromkeys(m["stage"] for m in metrics))
    parts = [
        f"<h1>{_text(results['method']).upper()} on {_text(results['dataset'])}</h1>",
        f"<p class=note>protocol {_text(results['protocol'])}, seed {results['seed']}, "
        f"{results['n_images']} {part} images (split {results['split_hash']}), "
        f"{_text(results['device'])}</p>",
        _fallback(results),
        f"<h2>Result on the {part} part</h2>",
        _results_table(results),
        "<h2>Counts</h2><div class=row>",
        image(figures.predicted_against_true(predicted, true, unit)),
        image(figures.limits_of_agreement(predicted, true, unit)),
        f"</div><h2>Best, median and worst {part} images</h2>",
        _legend(evaluation),
        "<div class=row>",
        *_examples(evaluation, predicted, true),
        "</div><h2>Training</h2><div class=row>",
        *(image(figures.curves(metrics, stage)) for stage in stages),
        "</div><h2>All figures</h2>",
        table(["", ""], [[key, _number(value)] for key, value in results.items()]),
    ]
    return page(f"{results['method']} on {results['dataset']}", "\n".join(parts))


def page(title: str, body: str) -> str:
    """A whole HTML document."""
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{_text(title)}</title>"
        f"<style>{STYLE}</style><body>{body}</body></html>\n"
    )


def png(figure: Figure, dpi: int = 110) -> bytes:
    """PNG of a figure."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()


def image(figure: Figure) -> str:
    """An HTML image with the figure inside."""
    return f'<img src="data:image/png;base64,{base64.b64encode(png(figure)).decode()}">'


def _text(value: Any) -> str:
    return html.escape(str(value))


def _number(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else _text(value)


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """HTML table of texts that are escaped already; all but the first column to the right."""
    cells = "".join(
        "<tr>"
        + "".join(f"<td{' class=n' if i else ''}>{c}</td>" for i, c in enumerate(row))
        + "</tr>"
        for row in rows
    )
    return f"<table><tr>{''.join(f'<th>{h}</th>' for h in head)}</tr>{cells}</table>"


def _fallback(results: Mapping[str, Any]) -> str:
    if not results["dataset_is_fallback"]:
        return ""
    return (
        "<p class=warning><b>Simulated cells.</b> The real images were not found, so this run "
        "was trained and tested on simulated ones. Its figures say nothing about the published "
        "set.</p>"
    )


def _results_table(results: Mapping[str, Any]) -> str:
    cut = "patch_mae" in results
    rows = [["<b>this counter</b>", *(_number(results.get(k)) for k in ("mae", "rmse", "bias"))]]
    if cut:
        rows[0].append(_number(results["patch_mae"]))
    for key, text in (
        ("mean", "mean of the training counts"),
        ("intensity", "straight line through total intensity"),
        ("histogram", "ridge on a brightness histogram"),
    ):
        row = [text, _number(results.get(f"baseline_{key}_mae")), "", ""]
        rows.append(row + ([_number(results.get(f"baseline_{key}_patch_mae"))] if cut else []))
    head = ["", "MAE", "RMSE", "bias"] + (["MAE per patch"] if cut else [])
    text = table(head, rows)
    if results.get("f1") is not None:
        text += (
            f"<p>Points within {results['radius']:g} px, one to one: F1 {results['f1']:.3f}, "
            f"precision {results['precision']:.3f}, recall {results['recall']:.3f}; "
            f"number of points: MAE {results['n_points_mae']:.1f}.</p>"
        )
    return text


def _legend(evaluation: Evaluation) -> str:
    if evaluation.counts[0].points is None:
        return "<p class=note>Rings: annotated cells. This method gives no points.</p>"
    return "<p class=note>Rings: annotated cells. Crosses: predicted points.</p>"


def _examples(evaluation: Evaluation, predicted: np.ndarray, true: np.ndarray) -> list[str]:
    order = np.argsort(np.abs(predicted - true), kind="stable")
    chosen = {"best": order[0], "median": order[len(order) // 2], "worst": order[-1]}
    images = []
    for word, i in chosen.items():
        sample = evaluation.samples[i]
        title = f"{word}: {figures.shortened(sample.name)}\n"
        title += f"true {true[i]:.0f}, predicted {predicted[i]:.1f}"
        points = evaluation.counts[i].points
        images.append(
            image(figures.overlay(sample.image, points, dots=sample.dots, title=title, width=3.0))
        )
    return images
