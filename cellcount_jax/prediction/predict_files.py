"""Counts files: a row per image, its points beside it; one that fails does not stop the rest."""

import contextlib
import hashlib
import logging
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

import cellcount_jax
from cellcount_jax.inference.cell_scale import with_diameter
from cellcount_jax.inference.counter import Counter
from cellcount_jax.io.images.image import list_images
from cellcount_jax.prediction import counts_csv, writers
from cellcount_jax.prediction.counts_csv import COLUMNS, Row
from cellcount_jax.prediction.predict_file import Options, count_one, describe
from cellcount_jax.prediction.writers import output_names

__all__ = [
    "COLUMNS",
    "Options",
    "count_files",
    "describe",
    "find_images",
    "output_names",
    "predict_files",
]

log = logging.getLogger(__name__)


def predict_files(
    counter: Counter, paths: Sequence[Path], out: Path, *, model: str, **options: Any
) -> int:
    """Counts images into `out/counts.csv` and `out/points/`, one at a time.

    Each row is on disk before the next image is read. A second call with the same model and
    settings keeps the rows that ended well and counts the rest.

    Args:
      counter: trained.
      paths: image files.
      out: folder, made if missing.
      model: name of the model for the table.
      **options: fields of `Options`.

    Returns:
      Number of files that could not be counted.

    Raises:
      ValueError: an option makes no sense.
      OSError: the table cannot be written.
    """
    chosen = Options(**options)
    if chosen.diameter is not None:
        counter = _of_diameter(counter, chosen.diameter)
    target = out / counts_csv.table_name(chosen.shard)
    out.mkdir(parents=True, exist_ok=True)
    names = dict(zip(map(str, paths), output_names(paths), strict=True))
    i, n = chosen.shard or (1, 1)
    mine = list(paths)[i - 1 :: n]
    rows = _kept(target, _settings(counter, model, chosen), mine, names, out, chosen)
    if rows:
        log.info("%d images were counted before", len(rows))
    counts_csv.write(target, [row for image in rows.values() for row in image])
    failed = 0
    with _progress(len(mine), len(rows)) as bar:
        for path in (p for p in mine if str(p) not in rows):
            row: Row = {"image": str(path), "roi": "", "model": model}
            row["version"] = cellcount_jax.__version__
            try:
                found = count_one(counter, path, names[str(path)], out, chosen, row, bar)
            except Exception as error:  # whatever one file does, the others are counted
                log.debug("%s", path, exc_info=True)
                failed += 1
                row["status"] = f"error: {_line(path, error)}"
                log.error("%s", _line(path, error))
                found = [row]
            counts_csv.append(target, found)
            rows[str(path)] = found
            bar.update()
    counts_csv.write(target, [row for path in mine for row in rows[str(path)]])
    return failed


def find_images(
    paths: str | Path | Sequence[str | Path], out: Path, *, pattern: str | None = None
) -> list[Path]:
    """Images in files, folders and patterns, but for those that counting wrote into `out`.

    Of a lab's folder with `images/` and `dots/` the annotations, which may be images, are no
    images to count, unless they are asked for by name.

    Raises:
      ImageError: a path that does not exist, or no image in it.
    """
    given = [Path(p) for p in ([paths] if isinstance(paths, str | Path) else paths)]
    made = [(out / folder).resolve() for folder in ("overlays", "density")]
    found = list_images(paths, pattern=pattern)
    return [
        p
        for p in found
        if not any(m in p.resolve().parents for m in made) and not _is_annotation(p, given)
    ]


def _is_annotation(path: Path, given: Sequence[Path]) -> bool:
    """Whether it lies in a lab's `dots/` and neither file nor folder was named there."""
    dots = [d for d in path.parents if d.name == "dots" and (d.parent / "images").is_dir()]
    return bool(dots) and not any(d == g or d in g.parents for d in dots for g in given)


def count_files(
    counter: Counter,
    paths: str | Path | Sequence[str | Path],
    out: Path,
    *,
    pattern: str | None = None,
    model: str | None = None,
    **options: Any,
) -> list[dict[str, str]]:
    """As `predict_files`, from files, folders or patterns to the rows of the table."""
    name = model or str(counter.facts.get("name") or counter.facts.get("method") or "model")
    found = find_images(paths, out, pattern=pattern)
    predict_files(counter, found, out, model=name, **options)
    return counts_csv.read(out / counts_csv.table_name(options.get("shard")))


def _of_diameter(counter: Counter, diameter: float) -> Counter:
    if counter.cell_diameter is None:
        raise ValueError("this model was not trained on cells of one size; leave --diameter out")
    return with_diameter(counter, diameter)


def _settings(counter: Counter, model: str, options: Options) -> Row:
    """All that rows depend on, besides the images."""
    found = hashlib.blake2b(digest_size=16)
    found.update(repr((counter.stage.readout, counter.preprocessing, counter.patches)).encode())
    found.update(repr((counter.scale, counter.cell_diameter)).encode())
    for leaf in jax.tree.leaves(counter.variables):
        found.update(np.ascontiguousarray(leaf).tobytes())
    return {
        "model": model,
        "weights": found.hexdigest(),
        "version": cellcount_jax.__version__,
        "points_style": options.points_style,
        "density": options.density,
        "overlays": options.on_counted is not None,
        "rows": None if options.rows_of is None else options.about_rows,
        "axes": options.axes,
        "channels": None if options.channels is None else list(options.channels),
        "voxel_size": None if options.voxel_size is None else list(options.voxel_size),
    }


def _kept(
    target: Path,
    settings: Row,
    paths: Sequence[Path],
    names: dict[str, str],
    out: Path,
    options: Options,
) -> dict[str, list[Row]]:
    """Rows of an earlier call that still hold, by image."""
    written = target.stat().st_mtime if target.exists() else 0.0
    before: dict[str, list[Row]] = {}
    for row in counts_csv.begin(target, settings):
        before.setdefault(row["image"], []).append(row)
    kept = {}
    for path in paths:
        rows = before.get(str(path))
        if rows is None or not path.exists() or path.stat().st_mtime > written:
            continue
        points = writers.points_path(out, names[str(path)], options.points_style)
        if rows[0]["n_points"] == "" or points.exists():
            kept[str(path)] = rows
    return kept


@contextlib.contextmanager
def _progress(total: int, done: int) -> Iterator[tqdm]:
    """A bar with rate and time left on a terminal, a line now and then elsewhere."""
    terminal = sys.stderr.isatty()
    with contextlib.ExitStack() as stack:
        if terminal:
            stack.enter_context(logging_redirect_tqdm())
        yield stack.enter_context(
            tqdm(
                total=total,
                initial=done,
                desc="counting",
                unit="image",
                mininterval=0.2 if terminal else 15.0,
                file=sys.stderr,
                disable=not terminal and total < 2,
            )
        )


def _line(path: Path, error: Exception) -> str:
    text = " ".join(str(error).split())[:500] or type(error).__name__
    return text if str(path) in text else f"{path}: {text}"
