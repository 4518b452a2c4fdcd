"""Errors of any library as text for a log, a table or a message of our own."""

import os


def one_line(error: BaseException, *, most: int | None = None) -> str:
    """Message of an error on one line, or the error's type if it has none.

    The system's own errors name their file first, without the number of the error.

    Args:
      error: Any error.
      most: Largest number of characters; longer messages are cut.
    """
    text = str(error)
    if isinstance(error, OSError) and error.strerror:
        file = error.filename
        text = error.strerror if file is None else f"{os.fsdecode(file)}: {error.strerror}"
    return " ".join(text.split())[:most] or type(error).__name__
