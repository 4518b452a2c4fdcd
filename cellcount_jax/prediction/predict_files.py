"""Counts files: a row per image, its points beside it; one that fails does not stop the rest."""

import contextlib
import dataclasses
import hashlib
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

import cellcount_jax
from cellcount_jax.inference.counter import Counter
from cellcount_jax.inference.readout import counts_points
from cellcount_jax.prediction import contents, counts_csv, writers
from cellcount_jax.prediction.counts_csv import CsvRow
from cellcount_jax.prediction.find_images import find_images
from cellcount_jax.prediction.options import Options
from cellcount_jax.prediction.parts import Part, part_name, parts_of
from cellcount_jax.prediction.predict_file import Outputs, count_file
from cellcount_jax.prediction.remarks import error_line, remarks_of
from cellcount_jax.runtime.lock import exclusive
from cellcount_jax.runtime.path_text import path_text

log = logging.getLogger(__name__)

CONTENTS_EVERY = 50
"""Number of images after which the fingerprints are written."""


def predict_files(
    counter: Counter, paths: Sequence[Path], out: Path, *, model: str, **options: Any
) -> int:
    """Counts images into `out/counts.csv` and `out/points/`, one at a time.

    Each row is on disk before the next image is read. A second call with the same model and
    settings keeps the rows of images that were counted and counts the rest.

    Args:
      counter: Trained counter.
      paths: Image files.
      out: Output folder, created if missing.
      model: Name of the model for the table.
      **options: Fields of `Options`.

    Returns:
      Number of files that could not be counted.

    Raises:
      ValueError: An option that cannot be used.
      OSError: The table cannot be written.
    """
    chosen = Options(**options)
    counter = _with_overrides(counter, chosen)
    target = out / counts_csv.table_name(chosen.shard)
    i, n = chosen.shard or (1, 1)
    mine = {path_text(path): path for path in list(paths)[i - 1 :: n]}
    with exclusive(out / f".{target.stem}.lock", what=str(target), wait=True):
        earlier, others, outputs = _begin(target, _settings(counter, model, chosen), paths)
        known = contents.read(target)
        rows = _kept(target, earlier, mine, outputs, chosen, known)
        if rows:
            log.info("%d images were counted before", len(rows))
        # A killed run leaves its last rows without fingerprints.
        known.update({i: contents.fingerprint(mine[i]) for i in rows if i not in known})
        counts_csv.write(target, [*others, *(row for image in rows.values() for row in image)])
        failed = 0
        with _progress(len(mine), len(rows)) as bar:
            for image in (text for text in mine if text not in rows):
                known.pop(image, None)
                with contextlib.suppress(OSError):  # the row will say what is wrong
                    known[image] = contents.fingerprint(mine[image])
                found = _rows(counter, mine[image], outputs[image], chosen, bar)
                failed += any(row["status"] != "ok" for row in found)
                about = {"image": image, "model": model, "version": cellcount_jax.__version__}
                rows[image] = [about | row for row in found]
                counts_csv.append(target, rows[image])
                if len(rows) % CONTENTS_EVERY == 0:
                    contents.write(target, known)
                bar.update()
        contents.write(target, known)
        every = [*others, *(row for image in mine for row in rows[image])]
        counts_csv.write(target, every, every_column=chosen.every_column)
    return failed


def _with_overrides(counter: Counter, chosen: Options) -> Counter:
    """The counter with settings overridden by the user's.

    Raises:
      ValueError: A setting that this counter does not have.
    """
    if chosen.density and counts_points(counter.stage.readout):
        raise ValueError("density: this model counts points, not a density map; leave it out")
    if chosen.diameter is not None:
        counter = counter.with_cell_diameter(chosen.diameter)
    if chosen.normalise is not None:
        given: Any = chosen.normalise
        counter = dataclasses.replace(
            counter, preprocessing=dataclasses.replace(counter.preprocessing, normalise=given)
        )
    if chosen.threshold is not None:
        readout = counter.stage.readout
        if readout.points_map is None:
            raise ValueError("threshold: this model gives no points; leave it out")
        log.info("threshold %g in place of the model's %g", chosen.threshold, readout.threshold)
        readout = dataclasses.replace(readout, threshold=chosen.threshold)
        stage = dataclasses.replace(counter.stage, readout=readout)
        counter = dataclasses.replace(counter, stage=stage)
    return counter


def _begin(
    target: Path, settings: dict[str, Any], paths: Sequence[Path]
) -> tuple[dict[str, list[CsvRow]], list[CsvRow], dict[str, Outputs]]:
    """What earlier calls left: rows of these images, rows of others, and names of outputs."""
    images = [path_text(path) for path in paths]
    rows, used = counts_csv.begin(target, settings)
    earlier: dict[str, list[CsvRow]] = {}
    others, here = [], set(images)
    for row in rows:
        if row["image"] in here:
            earlier.setdefault(row["image"], []).append(row)
        else:
            others.append(row)
    if others:
        log.info("%s: %d rows of other images are kept", target, len(others))
    names = writers.output_names(paths, used=used)
    counts_csv.remember(target, settings, used | dict(zip(images, names, strict=True)))
    outputs = {i: Outputs(target.parent, n) for i, n in zip(images, names, strict=True)}
    return earlier, others, outputs


def count_files(
    counter: Counter,
    paths: str | Path | Sequence[str | Path],
    out: Path,
    *,
    pattern: str | None = None,
    model: str | None = None,
    **options: Any,
) -> list[dict[str, str]]:
    """Like `predict_files`, from files, folders or patterns to the rows of the table."""
    name = model or counter.name or counter.stage.name
    found = find_images(paths, out, pattern=pattern)
    predict_files(counter, found, out, model=name, **options)
    return counts_csv.read(out / counts_csv.table_name(options.get("shard")))


def _rows(
    counter: Counter, path: Path, outputs: Outputs, options: Options, bar: tqdm
) -> list[CsvRow]:
    """Rows of a file; one that says what is wrong if it, or a part of it, cannot be counted."""
    said: set[str] = set()
    with remarks_of(path, said) as remarks:
        try:
            parts = parts_of(path, options)
        except Exception as error:  # whatever is wrong with one file, the others are counted
            return [_failed(path, error) | {"remarks": "; ".join(remarks)}]
    rows = []
    for part in parts:
        own = Outputs(outputs.folder, part_name(outputs.name, part.columns))
        rows += _part_rows(counter, path, own, options, bar, part, said)
    return rows


def _failed(path: Path, error: Exception) -> CsvRow:
    log.debug("%s", path_text(path), exc_info=True)
    log.error("%s", error_line(path, error))
    return {"status": f"error: {error_line(path, error)}"}


def _part_rows(
    counter: Counter,
    path: Path,
    outputs: Outputs,
    options: Options,
    bar: tqdm,
    part: Part,
    said: set[str],
) -> list[CsvRow]:
    name = path_text(Path(outputs.name))

    def on_window(done: int, total: int) -> None:
        bar.set_postfix_str(f"{name}: window {done} of {total}" if done < total else "")

    with remarks_of(path, said) as remarks:
        try:
            rows = count_file(counter, path, outputs, options, on_window=on_window, part=part)
        except Exception as error:  # whatever is wrong with one file, the others are counted
            rows = [_failed(path, error)]
    return [row | part.columns | {"remarks": "; ".join(remarks)} for row in rows]


def _settings(counter: Counter, model: str, options: Options) -> dict[str, Any]:
    """Everything that rows depend on, besides the images."""
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
        "parts": [options.scene, options.time, options.per_slice],
        "channels": None if options.channels is None else list(options.channels),
        "voxel_size": None if options.voxel_size is None else list(options.voxel_size),
    }


def _kept(
    target: Path,
    before: Mapping[str, list[CsvRow]],
    images: Mapping[str, Path],
    outputs: Mapping[str, Outputs],
    options: Options,
    known: Mapping[str, str],
) -> dict[str, list[CsvRow]]:
    """Rows of an earlier call that are still valid, by image: the same content was counted.

    For an image without a fingerprint, after a killed run, the file's modification time decides.
    """
    written = target.stat().st_mtime if target.exists() else 0.0
    kept = {}
    for image, path in images.items():
        rows = before.get(image)
        if rows is None or not path.exists():
            continue
        if image in known and contents.fingerprint(path) != known[image]:
            continue
        if image not in known and path.stat().st_mtime > written:
            continue
        folder, name = outputs[image]
        points = [
            writers.points_path(folder, part_name(name, row), options.points_style)
            for row in rows
            if row["n_points"] != ""
        ]
        if all(p.exists() for p in points):
            kept[image] = rows
    return kept


@contextlib.contextmanager
def _progress(total: int, done: int) -> Iterator[tqdm]:
    """A progress bar with rate and time left on a terminal, otherwise an occasional line."""
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
