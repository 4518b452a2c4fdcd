"""A folder that is being annotated: where its journals, dots and records are.

FOLDER/annotation/a.png.journal    every act on a.png
FOLDER/annotation/annotated.csv    who, when, seconds and numbers of each saved image
FOLDER/annotation/originals/       dots of other programs that a save has replaced
FOLDER/dots/a.csv                  the saved dots; also `cellcount train` reads them
FOLDER/not_cells/a.csv             places marked as no cell
FOLDER/observers/NAME/             the same of a second observer, who sees none of these
"""

import contextlib
import csv
import dataclasses
import datetime
import functools
import getpass
import hashlib
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from cellcount_jax.annotation.records import State
from cellcount_jax.annotation.session import Session
from cellcount_jax.io.annotations.dots import Dots, read_dots, write_dots
from cellcount_jax.io.images.image import LazyImage, open_lazy
from cellcount_jax.io.pairing import find_pairs
from cellcount_jax.runtime.lock import exclusive
from cellcount_jax.runtime.path_text import ANY_NAME
from cellcount_jax.runtime.replace_file import replacing

log = logging.getLogger(__name__)

COLUMNS = (
    "image", "who", "first_opened", "saved", "seconds", "n_dots", "n_unjudged", "n_not_cells",
    "dots_file",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Project:
    """A folder of images, and the person who annotates it.

    Attributes:
      folder: Folder with the images.
      images: Images in the order of their names.
      dots: Image -> the file of dots that it had when the folder was opened.
      who: The person.
      observer: Name of a second observer, who is blind to the first; None for the first.
    """

    folder: Path
    images: tuple[Path, ...]
    dots: dict[Path, Path]
    who: str
    observer: str | None = None

    @property
    def root(self) -> Path:
        """Folder that all files of this observer lie in."""
        return self.folder / "observers" / self.observer if self.observer else self.folder

    def key(self, image: Path) -> str:
        """Unique name of an image in the folder, usable as the name of a file."""
        base = self.folder / "images" if (self.folder / "images").is_dir() else self.folder
        inside = image.relative_to(base) if image.is_relative_to(base) else Path(image.name)
        return "__".join(inside.parts)

    def name(self, image: Path) -> str:
        """Name of an image's dots: its stem, or its whole name where two images share it."""
        stems = [p.stem.lower() for p in self.images]
        return image.stem if stems.count(image.stem.lower()) == 1 else image.name


def open_project(folder: Path, *, observer: str | None = None) -> Project:
    """Lists the images of a folder and their dots.

    Raises:
      FolderError: It is missing or holds no images.
      ValueError: A name of an observer that cannot be that of a folder.
    """
    if observer is not None and (not observer.strip() or Path(observer).name != observer):
        raise ValueError(f"observer {observer!r}: give a name that can be that of a folder")
    images, pairs = find_pairs(folder)
    project = Project(folder, tuple(images), pairs, observer or login(), observer)
    if observer is None:
        return project
    own = {p: project.root / "dots" / f"{project.name(p)}.csv" for p in images}
    return dataclasses.replace(project, dots={p: d for p, d in own.items() if d.exists()})


def login() -> str:
    """Name of the person at this computer."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a user without a name
        return "unknown"


@contextlib.contextmanager
def open_image(project: Project, image: Path) -> Iterator[tuple[LazyImage, Session]]:
    """Opens an image and the dots under edit, locked for other programs.

    An image that is opened for the first time brings the dots of its file: those with scores are
    some program's and become proposals, others a person's.

    Raises:
      LockedError: Another program edits this image.
      JournalError: The journal cannot be used.
      ValueError: The image or its dots cannot be read.
    """
    place = project.root / "annotation"
    key = project.key(image)
    lock = exclusive(place / f".{key}.lock", what=f"{image.name} (annotation)", wait=False)
    with lock, open_lazy(image) as opened:
        shape = opened.space_shape
        session = Session(place / f"{key}.journal", shape, who=project.who, spacing=opened.spacing)
        try:
            path = project.dots.get(image)
            if path is not None and path.exists():
                _take_over(session, path, shape)
            yield opened, session
        finally:
            session.close()


def _take_over(session: Session, path: Path, shape: tuple[int, ...]) -> None:
    """Imports a file of dots once; later changes of it by other programs are named."""
    digest = _digest(path)
    known = [e["digest"] for e in session.journal.entries if e["op"] in ("imported", "saved")]
    if not known and not session.table.n:
        dots = read_dots(path, image_shape=shape, pixel_size=session.spacing)
        session.import_dots(dots)
        session.journal.append("imported", {"path": str(path), "digest": digest})
    elif not known or digest != known[-1]:
        log.warning(
            "%s: changed since it was saved here; the journal's dots are shown, and the next save "
            "keeps this file in annotation/originals",
            path,
        )


def save(
    project: Project,
    image: Path,
    session: Session,
    *,
    path: Path | None = None,
    format: str = "csv",
) -> Path:
    """Writes the counted dots, the places marked as no cell, and who, when and seconds.

    A file of dots that this tool did not write is kept in `annotation/originals`.

    Args:
      project: Project of the image.
      image: Image that was annotated.
      session: Its dots.
      path: Path of the file; by default `dots/<name>.csv`.
      format: One of `FORMAT_NAMES`.

    Returns:
      The file of dots.

    Raises:
      OSError: A file could not be written; nothing is lost, the journal has every act.
    """
    name, dots = project.name(image), session.dots()
    target = path or project.root / "dots" / f"{name}.csv"
    target.parent.mkdir(parents=True, exist_ok=True)
    for old in {target, project.dots.get(image, target)} if path is None else ():
        if old.exists() and not _is_ours(session, old):
            _set_aside(project, old, remove=old != target)
    write_dots(target, dots, format=format, image_shape=session.shape, image_name=image.name)
    negatives = project.root / "not_cells" / f"{name}.csv"
    if len(session.hard_negatives()) or negatives.exists():
        negatives.parent.mkdir(exist_ok=True)
        write_dots(negatives, Dots(session.hard_negatives()), format="csv")
    session.journal.append("saved", {"path": str(target), "digest": _digest(target)})
    _record(project, image, session, target)
    if path is None:
        project.dots[image] = target
    return target


def _is_ours(session: Session, path: Path) -> bool:
    digests = {e["digest"] for e in session.journal.entries if e["op"] == "saved"}
    return _digest(path) in digests


def _set_aside(project: Project, path: Path, *, remove: bool) -> None:
    """Copies a file of another program; `remove` where it would be a second file of its image."""
    place = project.root / "annotation" / "originals"
    place.mkdir(parents=True, exist_ok=True)
    target, number = place / path.name, 1
    while target.exists() and _digest(target) != _digest(path):
        number += 1
        target = place / f"{path.stem}-{number}{path.suffix}"
    shutil.copy2(path, target)
    log.warning("%s: kept as %s", path, target)
    if remove:
        path.unlink()


def _record(project: Project, image: Path, session: Session, target: Path) -> None:
    opened = session.journal.entries[0]["time"]
    states = session.table.rows.states
    row = {
        "image": project.key(image),
        "who": project.who,
        "first_opened": _clock(opened),
        "saved": _clock(session.journal.entries[-1]["time"]),
        "seconds": f"{session.seconds():.1f}",
        "n_dots": int(session.is_counted().sum()),
        "n_unjudged": int((states == State.PROPOSED).sum()),
        "n_not_cells": int((states == State.REJECTED).sum()),
        "dots_file": os.path.relpath(target, project.folder),
    }
    rows = {r["image"]: r for r in annotated(project)} | {row["image"]: row}
    path = project.root / "annotation" / "annotated.csv"
    with replacing(path, newline="", encoding="utf-8", errors=ANY_NAME) as file:
        table = csv.DictWriter(file, COLUMNS)
        table.writeheader()
        table.writerows(rows.values())


def annotated(project: Project) -> list[dict[str, str]]:
    """The rows of `annotated.csv`: one for each saved image."""
    path = project.root / "annotation" / "annotated.csv"
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8", errors=ANY_NAME) as file:
        return list(csv.DictReader(file))


def progress(project: Project) -> tuple[int, int, int]:
    """Images with saved dots, all images, and the number of saved dots."""
    saved = {row["image"]: int(row["n_dots"]) for row in annotated(project)}
    for image in project.images:
        path = project.dots.get(image)
        if project.key(image) not in saved and path is not None and path.exists():
            saved[project.key(image)] = _n_dots(path, path.stat().st_mtime_ns)
    return len(saved), len(project.images), sum(saved.values())


@functools.lru_cache(maxsize=100_000)
def _n_dots(path: Path, changed: int) -> int:
    """Number of dots in a file that was last changed then."""
    del changed
    try:
        return len(read_dots(path))
    except ValueError:
        log.info("%s: cannot be read without its image; its dots are not in the sum", path)
        return 0


def _digest(path: Path) -> str:
    return hashlib.blake2b(path.read_bytes(), digest_size=12).hexdigest()


def _clock(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds).astimezone().isoformat(timespec="seconds")
