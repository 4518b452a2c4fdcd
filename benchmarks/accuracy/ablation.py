"""Tables and plots of ablations: a row or bar per variant, over the runs of its seeds."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.output import markdown, mean_and_sd

Results = Mapping[str, Sequence[dict]]
"""Name of each variant -> results of its runs."""


def table(
    results: Results, columns: Mapping[str, str], *, digits: Callable[[str], int] = lambda key: 2
) -> str:
    """Markdown: mean and standard deviation of each column's figure over the runs.

    Args:
      results: Results of the variants.
      columns: Key in the results -> title.
      digits: Key -> digits after the decimal point.
    """
    rows = (
        [name, *(mean_and_sd([r.get(key) for r in runs], digits=digits(key)) for key in columns)]
        for name, runs in results.items()
    )
    return markdown(["", *columns.values()], rows)


def bars(
    axes: Axes, results: Results, key: str, *, title: str, least: float | None = None
) -> list[float]:
    """A bar per variant and a dot per run, the first variant on top.

    Args:
      axes: Drawn on.
      results: Results of the variants.
      key: Key in the results.
      title: Title of the axes.
      least: Smaller values are drawn as this; for logarithmic scales.

    Returns:
      All values drawn.
    """
    drawn: list[float] = []
    for i, runs in enumerate(results.values()):
        values = [r[key] for r in runs if r.get(key) is not None]
        values = values if least is None else [max(value, least) for value in values]
        drawn += values
        if values:
            axes.barh(i, np.mean(values), color="#8ecae6")
            axes.plot(values, [i] * len(values), "o", color="#023047", markersize=3)
    axes.set_yticks(range(len(results)), results)
    axes.set_title(title, fontsize=9)
    return drawn


def write(stem: Path, results: Results, text: str, figure: Figure) -> None:
    """Writes STEM.json, STEM.md with the table and STEM.png with the plot; prints the table."""
    stem.with_suffix(".json").write_text(json.dumps(results, indent=2) + "\n")
    stem.with_suffix(".md").write_text(text + "\n")
    figure.savefig(stem.with_suffix(".png"), dpi=150)
    print(text)
