"""Errors of any library as text for a log, a table or a message of our own."""


def one_line(error: BaseException, *, most: int | None = None) -> str:
    """Message of an error on one line, or the error's type if it has none.

    Args:
      error: Any error.
      most: Largest number of characters; longer messages are cut.
    """
    return " ".join(str(error).split())[:most] or type(error).__name__
