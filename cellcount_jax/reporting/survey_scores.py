"""The scores of a survey as files and as a printed table."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cellcount_jax.runtime.replace_file import replacing, write_file

COLUMNS = {
    "n_questions": "questions",
    "says_cell": "say cell",
    "as_claimed": "as claimed",
    "majority_as_claimed": "majority as claimed",
    "all_as_claimed": "all as claimed",
    "unanimous": "unanimous",
    "between_raters": "pairs agree",
    "kappa": "kappa",
    "ease_mean": "ease",
    "ease_sd": "sd",
}
"""Figures of a group -> heads of the printed table."""


def write_scores(found: Mapping[str, Any], survey: str, out: Path) -> None:
    """Writes `scores.json`, all figures, and `scores.csv`, a row per question.

    Args:
      found: Result of `evaluation.survey.scores`.
      survey: Its identity.
      out: Folder, made if missing; files of other scores are kept beside.
    """
    text = json.dumps({"survey": survey, **found}, indent=1) + "\n"
    write_file(out / "scores.json", text, keep=True)
    with replacing(out / "scores.csv", keep=True, newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(found["questions"][0]))
        table.writeheader()
        table.writerows(found["questions"])


def in_lines(found: Mapping[str, Any]) -> list[str]:
    """A table with a row per group, and the question with the least agreement."""
    rows: list[Sequence[str]] = [("", *COLUMNS.values())]
    for name, figures in found["groups"].items():
        rows.append((name, *(_shown(key, figures[key]) for key in COLUMNS)))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows
    ]
    lowest = found["groups"]["all"]["lowest"]
    for row in found["questions"]:
        if row["question"] == lowest:
            lines.append(
                f"lowest: question {lowest} ({row['prototype']}, {row['image']}), "
                f"{row['as_claimed']:.0%} as claimed, ease {row['ease']:.2f}"
            )
    return lines


def _shown(key: str, value: float | None) -> str:
    if value is None:
        return "-"
    if key == "n_questions":
        return str(value)
    if key in ("kappa", "ease_mean", "ease_sd"):
        return f"{value:z.2f}"  # without the sign of -0.00
    return f"{100 * value:.1f} %"
