"""Plots of reports, each a matplotlib figure, and how figures become PNG."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from cellcount_jax.evaluation import metrics

matplotlib.use("Agg")


def png(figure: Figure, *, dpi: int = 110) -> bytes:
    """PNG of a figure."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()


def subplot(width: float, height: float) -> tuple[Figure, Any]:
    """A figure of that size in inches with one pair of axes."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def curves(lines: Sequence[Mapping[str, Any]], stage: str) -> Figure:
    """Training loss and validation error of a stage against steps.

    Args:
      lines: Lines of `metrics.jsonl`.
      stage: Name of the stage.
    """
    figure, axes = subplot(5.2, 3.2)
    own = [m for m in lines if m["stage"] == stage]
    train = [(m["step"], m["loss"]) for m in own if m["split"] == "train"]
    axes.plot(*np.transpose(train), color="#118ab2", label="loss")
    axes.set(xlabel="step", ylabel="training loss", title=stage, yscale="log")
    handles = list(axes.lines)
    # Stages that find points are compared by F1 if it was logged.
    for key, colour in (("f1", "#ef476f"), ("mae", "#06a77d")):
        validated = [m for m in own if m["split"] == "validation" and m.get(key) is not None]
        if validated:
            beside = axes.twinx()
            points = [(m["step"], m[key]) for m in validated]
            beside.plot(*np.transpose(points), color=colour, label=f"validation {key}")
            beside.set_ylabel(f"validation {key}", color=colour)
            handles += beside.lines
            break
    axes.legend(handles=handles, loc="upper right", frameon=False)
    return figure


def predicted_against_true(predicted: Sequence[float], true: Sequence[float], unit: str) -> Figure:
    """Scatter plot of counts with the identity line.

    Args:
      predicted: [N] counts.
      true: [N] counts.
      unit: What the cells were counted in, such as "image"; for the axes.
    """
    figure, axes = subplot(4.2, 4.0)
    top = 1.05 * max(1.0, float(max(*predicted, *true)))
    axes.plot([0, top], [0, top], color="0.6", linewidth=1, label="identity")
    axes.scatter(true, predicted, s=14, color="#118ab2", alpha=0.8, linewidth=0)
    axes.set(xlim=(0, top), ylim=(0, top), aspect="equal")
    axes.set(xlabel=f"true cells per {unit}", ylabel=f"predicted cells per {unit}")
    axes.legend(frameon=False, loc="upper left")
    return figure


def limits_of_agreement(
    predicted: Sequence[float],
    true: Sequence[float],
    unit: str,
    *,
    names: tuple[str, str] = ("predicted", "true"),
) -> Figure:
    """Bland-Altman plot: difference against mean, with bias and limits of agreement.

    Args:
      predicted: [N] counts.
      true: [N] counts that they are compared with.
      unit: What the cells were counted in, such as "image"; for the axes.
      names: Names of the two.
    """
    figure, axes = subplot(5.2, 4.0)
    errors = metrics.count_errors(predicted, true)
    bias = errors["bias"]
    low, high = errors["limits_of_agreement"] or (bias, bias)
    mean, difference = np.add(predicted, true) / 2, np.subtract(predicted, true)
    axes.scatter(mean, difference, s=14, color="#118ab2", alpha=0.8, linewidth=0)
    for level, text in ((bias, "bias"), (low, "-1.96 SD"), (high, "+1.96 SD")):
        style = "-" if text == "bias" else "--"
        axes.axhline(level, color="#ef476f", linewidth=1, linestyle=style)
        place = {"xy": (1, level), "xycoords": ("axes fraction", "data")}
        axes.annotate(f"{text} {level:+.1f}", **place, ha="right", va="bottom", fontsize=8)
    axes.axhline(0, color="0.8", linewidth=1, zorder=0)
    first, second = names
    axes.set(xlabel=f"mean of {first} and {second} cells per {unit}", ylabel=f"{first} - {second}")
    return figure
