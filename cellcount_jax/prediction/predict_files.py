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
from cellcount_jax.inference.counter import Counter
from cellcount_jax.io.images.find import list_images
from cellcount_jax.prediction import counts_csv, writers
from cellcount_jax.prediction.counts_csv import CsvRow
from cellcount_jax.prediction.options import Options
from cellcount_jax.prediction.predict_file import Outputs, count_file

log = logging.getLogger(__name__)


def predict_files(
    counter: Counter, paths: Sequence[Path], out: Path, *, model: str, **options: Any
) -> int:
    """Counts images into `out/counts.csv` and `out/points/`, one at a time.

    Each row is on disk before the next image is read. A second call with the same model and
    settings keeps the rows of images that were counted and counts the rest.

    Args:
      counter: trained.
      paths: image files.
      out: folder, made if missing.
      model: name of the model for the table.
      **options: fields of `Options`.

    Returns:
      Number of files that could not be counted.

    Raises:
      ValueError: an option that cannot be used.
      OSError: the table cannot be written.
    """
    chosen = Options(**options)
    if chosen.diameter is not None:
        counter = counter.with_cell_diameter(chosen.diameter)
    target = out / counts_csv.table_name(chosen.shard)
    out.mkdir(parents=True, exist_ok=True)
    names = writers.output_names(paths)
    outputs = {str(p): Outputs(out, name) for p, name in zip(paths, names, strict=True)}
    i, n = chosen.shard or (1, 1)
    mine = list(paths)[i - 1 :: n]
    rows = _kept(target, _settings(counter, model, chosen), mine, outputs, chosen)
    if rows:
        log.info("%d images were counted before", len(rows))
    counts_csv.write(target, [row for image in rows.values() for row in image])
    failed = 0
    with _progress(len(mine), len(rows)) as bar:
        for path in (p for p in mine if str(p) not in rows):
            found = _rows(counter, path, outputs[str(path)], chosen, bar)
            failed += found[0]["status"] != "ok"
            about = {"image": str(path), "model": model, "version": cellcount_jax.__version__}
            rows[str(path)] = [about | row for row in found]
            counts_csv.append(target, rows[str(path)])
            bar.update()
    counts_csv.write(target, [row for path in mine for row in rows[str(path)]])
    return failed


def find_images(
    paths: str | Path | Sequence[str | Path], out: Path, *, pattern: str | None = None
) -> list[Path]:
    """Images in files, folders and patterns, except those that an earlier call wrote into `out`.

    Images in the `dots/` folder beside an `images/` folder are annotations; they are counted only
    if they or their folder are named.

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
    """Whether it lies in a `dots/` folder, and neither that nor anything in it is in `given`."""
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
    name = model or counter.name or counter.stage.name
    found = find_images(paths, out, pattern=pattern)
    predict_files(counter, found, out, model=name, **options)
    return counts_csv.read(out / counts_csv.table_name(options.get("shard")))


def _rows(
    counter: Counter, path: Path, outputs: Outputs, options: Options, bar: tqdm
) -> list[CsvRow]:
    """Rows of a file; one that says what is wrong if it cannot be counted."""

    def on_window(done: int, total: int) -> None:
        bar.set_postfix_str(f"{outputs.name}: window {done} of {total}" if done < total else "")

    try:
        return count_file(counter, path, outputs, options, on_window=on_window)
    except Exception as error:  # whatever is wrong with one file, the others are counted
        log.debug("%s", path, exc_info=True)
        log.error("%s", _line(path, error))
        return [{"status": f"error: {_line(path, error)}"}]


def _settings(counter: Counter, model: str, options: Options) -> dict[str, Any]:
    """All that rows depend on, besides the images."""
    found = hashlib.blake2b(digest_size=16)
    found.update(repr((counter.stage.readout, counter.preprocessing, counter.resampling)).encode())
    for leaf in jax.tree.leaves(counter.variables):
        found.update(np.ascontiguousarray(leaf).tobytes())
    return {
        "model": model,
        "weights": found.hexdigest(),
        "version": cellcount_jax.__version__,
        "points_style": options.points_style,
        "density": options.density,
        "overlays": options.on_counted is not None,
        "rows": None if options.regions is None else str(options.regions),
        "axes": options.axes,
        "channels": None if options.channels is None else list(options.channels),
        "voxel_size": None if options.voxel_size is None else list(options.voxel_size),
    }


def _kept(
    target: Path,
    settings: dict[str, Any],
    paths: Sequence[Path],
    outputs: dict[str, Outputs],
    options: Options,
) -> dict[str, list[CsvRow]]:
    """Rows of an earlier call that are still valid, by image."""
    written = target.stat().st_mtime if target.exists() else 0.0
    before: dict[str, list[CsvRow]] = {}
    for row in counts_csv.begin(target, settings):
        before.setdefault(row["image"], []).append(row)
    kept = {}
    for path in paths:
        rows = before.get(str(path))
        if rows is None or not path.exists() or path.stat().st_mtime > written:
            continue
        points = writers.points_path(*outputs[str(path)], options.points_style)
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
