"""Files that are whole at any moment: written beside, then renamed."""

import contextlib
import filecmp
import logging
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)


def aside(path: Path) -> Path:
    """A free name for an earlier file: `counts.before-1.csv` for `counts.csv`, or -2, ..."""
    number = 1
    while (free := path.with_name(f"{path.stem}.before-{number}{path.suffix}")).exists():
        number += 1
    return free


def write_file(path: Path, content: str | bytes, *, keep: bool = False) -> None:
    """Writes a whole file by `replacing`; text as UTF-8. Makes its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, "wb", keep=keep) as file:
        file.write(
            content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content
        )


@contextlib.contextmanager
def replacing(path: Path, mode: str = "w", *, keep: bool = False, **options: Any) -> Iterator[Any]:
    """An open file that takes the place of `path` when the block ends without an error.

    Where it cannot be written to its end (a full disk, a killed process), an old file stays as it
    is, and the error names the file.

    Args:
      path: The file; its folder must exist.
      mode: "w" or "wb".
      keep: An old file of other content is renamed as `aside` says, which is logged.
      **options: Options of `open`, such as `encoding`.

    Raises:
      OSError: The file cannot be written.
    """
    # Not from the name itself, which may be as long as names can be.
    beside = path.with_name(f".new-{os.getpid()}-{zlib.crc32(os.fsencode(path.name)):08x}")
    try:
        with naming(path, beside), beside.open(mode, **options) as file:
            yield file
        if keep and path.exists() and not filecmp.cmp(path, beside, shallow=False):
            log.warning("%s is of an earlier call; kept as %s", path, aside(path).name)
            path.rename(aside(path))
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


@contextlib.contextmanager
def naming(path: os.PathLike[str], *others: os.PathLike[str]) -> Iterator[None]:
    """Makes errors of the system while `path` is written name it, and say what to do.

    Args:
      path: The file that is written.
      *others: Files that are written in its place; errors that name any further file are not
        changed.

    Raises:
      OSError: As in the block.
    """
    try:
        yield
    except OSError as error:
        if error.filename not in (None, *map(str, (path, *others))) or not error.strerror:
            raise
        raise OSError(
            f"{path}: cannot be written ({error.strerror}), and is as it was before; make room, or "
            "name another folder, and run the command again"
        ) from error
