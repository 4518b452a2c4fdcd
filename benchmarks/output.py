"""What benchmarks print and write: Markdown tables, JSON files, lines in `benchmarks/results`."""

import argparse
import json
import shlex
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cellcount_jax.runtime import sharding
from cellcount_jax.runtime.environment import git_revision, package_versions

RESULTS = Path(__file__).parent / "results"


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table, without a newline at its end."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        "|" + "".join(f" {cell} |" if cell else " |" for cell in line) for line in lines
    )


def mean_and_sd(values: Iterable[float | None], *, digits: int = 2) -> str:
    """Mean and sample standard deviation of the values that are known; `-` if none is."""
    known = [v for v in values if v is not None]
    if not known:
        return "-"
    spread = f" ± {np.std(known, ddof=1):.{digits}f}" if len(known) > 1 else ""
    return f"{np.mean(known):.{digits}f}{spread}"


def median_and_range(values: Sequence[float]) -> dict[str, float]:
    """Median, smallest and largest value."""
    return {"median": statistics.median(values), "least": min(values), "greatest": max(values)}


def shown(found: Mapping[str, float], digits: int = 2) -> str:
    """A `median_and_range` as text."""
    median, least, greatest = (f"{found[k]:.{digits}f}" for k in ("median", "least", "greatest"))
    return f"{median} ({least} to {greatest})"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that `finish` reads."""
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"), help="folder")
    parser.add_argument("--record", action="store_true", help="also add to benchmarks/results")


def finish(
    options: argparse.Namespace, name: str, results: Mapping[str, Any], text: str = ""
) -> None:
    """Writes NAME.json and, if there is a text, NAME.md; records and prints what was asked for."""
    write(options.out, name, results, text)
    if options.record:
        record(name, results)
    print(text or json.dumps(results, indent=2))


def write(folder: Path, name: str, results: Mapping[str, Any], text: str = "") -> None:
    """Writes NAME.json and, if there is a text, NAME.md."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(results, indent=2) + "\n")
    if text:
        (folder / f"{name}.md").write_text(text)


def record(
    name: str,
    figures: Mapping[str, Any],
    *,
    config: str | None = None,
    seed: int | None = None,
    split_hash: str | None = None,
    folder: Path = RESULTS,
) -> None:
    """Appends one line to NAME.jsonl in `benchmarks/results`; its README lists the fields."""
    line = {
        "commit": git_revision(),
        "command": shlex.join(["python", "-m", *_module(), *sys.argv[1:]]),
        "config": config,
        "seed": seed,
        "split_hash": split_hash,
        "device": sharding.describe_device(),
        "versions": package_versions(("jax", "jaxlib", "flax", "optax", "numpy")),
        "figures": figures,
    }
    with (folder / f"{name}.jsonl").open("a") as lines:
        lines.write(json.dumps(line, default=str) + "\n")


def recorded(path: Path) -> list[dict[str, Any]]:
    """The lines that `record` added to a file, oldest first; none if there is no such file."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _module() -> list[str]:
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return [spec.name] if spec else []
