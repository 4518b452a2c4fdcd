"""Figures of a report, each a matplotlib figure; no state, no windows."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

matplotlib.use("Agg")

TRUE_COLOUR, FOUND_COLOUR = "#ffd166", "#ef476f"


def curves(lines: Sequence[Mapping[str, Any]], stage: str) -> Figure:
    """Training loss and validation error of a stage against steps."""
    figure = Figure(figsize=(5.2, 3.2), layout="constrained")
    axes = figure.add_subplot()
    train = [m for m in lines if m["stage"] == stage and m["split"] == "train"]
    axes.plot([m["step"] for m in train], [m["loss"] for m in train], color="#118ab2", label="loss")
    axes.set(xlabel="step", ylabel="training loss", title=stage, yscale="log")
    handles = list(axes.lines)
    # A localizer leaves the count alone: what it changes is F1.
    for key, colour in (("f1", "#ef476f"), ("mae", "#06a77d")):
        points = [
            (m["step"], m[key])
            for m in lines
            if m["stage"] == stage and m["split"] == "validation" and m.get(key) is not None
        ]
        if points:
            beside = axes.twinx()
            beside.plot(*zip(*points, strict=True), color=colour, label=f"validation {key}")
            beside.set_ylabel(f"validation {key}", color=colour)
            handles += beside.lines
            break
    axes.legend(handles=handles, loc="upper right", frameon=False)
    return figure


def predicted_against_true(predicted: np.ndarray, true: np.ndarray, unit: str) -> Figure:
    """Scatter with the identity line."""
    figure = Figure(figsize=(4.2, 4.0), layout="constrained")
    axes = figure.add_subplot()
    top = 1.05 * max(1.0, float(max(predicted.max(), true.max())))
    axes.plot([0, top], [0, top], color="0.6", linewidth=1, label="identity")
    axes.scatter(true, predicted, s=14, color="#118ab2", alpha=0.8, linewidth=0)
    axes.set(xlim=(0, top), ylim=(0, top), aspect="equal")
    axes.set(xlabel=f"true cells per {unit}", ylabel=f"predicted cells per {unit}")
    axes.legend(frameon=False, loc="upper left")
    return figure


def limits_of_agreement(predicted: np.ndarray, true: np.ndarray, unit: str) -> Figure:
    """Bland-Altman plot: difference against mean, with bias and bias +- 1.96 SD."""
    figure = Figure(figsize=(5.2, 4.0), layout="constrained")
    axes = figure.add_subplot()
    difference = predicted - true
    bias = difference.mean()
    spread = 1.96 * difference.std(ddof=1) if len(difference) > 1 else 0.0
    axes.scatter((predicted + true) / 2, difference, s=14, color="#118ab2", alpha=0.8, linewidth=0)
    for level, text in ((bias, "bias"), (bias - spread, "-1.96 SD"), (bias + spread, "+1.96 SD")):
        style = "-" if text == "bias" else "--"
        axes.axhline(level, color="#ef476f", linewidth=1, linestyle=style)
        axes.annotate(
            f"{text} {level:+.1f}",
            (1, level),
            xycoords=("axes fraction", "data"),
            ha="right",
            va="bottom",
            fontsize=8,
        )
    axes.axhline(0, color="0.8", linewidth=1, zorder=0)
    axes.set(xlabel=f"mean of predicted and true cells per {unit}", ylabel="predicted - true")
    return figure


def overlay(
    image: np.ndarray,
    found: np.ndarray | None,
    *,
    dots: np.ndarray | None = None,
    title: str = "",
    width: float = 4.6,
) -> Figure:
    """An image with predicted points (crosses) and, where known, the true dots (rings).

    Args:
      image: [H, W, C] or [D, H, W, C] as read; volumes are shown as their brightest projection.
      found: [N, ndim] predicted points, or None.
      dots: [N, ndim] true dots, or None.
      title: above the image.
      width: of the figure in inches.
    """
    if image.ndim == 4:
        image = image.max(axis=0)
    height, length = image.shape[:2]
    figure = Figure(figsize=(width, width * height / length + 0.35), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(displayable(image), interpolation="nearest")
    size = float(np.clip(width * 3000 / max(length, 1), 3, 40))
    if dots is not None and len(dots):
        axes.scatter(
            dots[:, -1],
            dots[:, -2],
            s=size,
            facecolors="none",
            edgecolors=TRUE_COLOUR,
            linewidth=0.8,
        )
    if found is not None and len(found):
        axes.scatter(
            found[:, -1], found[:, -2], s=size * 0.5, marker="x", color=FOUND_COLOUR, linewidth=0.8
        )
    axes.set(xlim=(-0.5, length - 0.5), ylim=(height - 0.5, -0.5), xticks=[], yticks=[])
    axes.set_title(title, fontsize=9)
    return figure


def shortened(name: str, most: int = 36) -> str:
    """A name that fits above an image: what is too much in its middle becomes dots."""
    return name if len(name) <= most else f"{name[: most // 2 - 1]}...{name[-(most // 2 - 2) :]}"


def displayable(image: np.ndarray) -> np.ndarray:
    """[H, W, 3] in 0..1 of any image: bytes as they are, everything else by its percentiles."""
    image = image[..., :3] if image.shape[-1] >= 3 else image[..., :1]
    if image.dtype == np.uint8 and image.shape[-1] == 3:
        return image / 255.0
    low, high = np.nanpercentile(image, (0.5, 99.8))
    scaled = np.clip((image.astype(np.float32) - low) / max(high - low, 1e-6), 0, 1)
    return np.repeat(scaled, 3, axis=-1) if scaled.shape[-1] == 1 else scaled
