"""Names of files as text that every table, page and screen can hold."""

import os
from pathlib import Path

FORMULA_STARTS = ("=", "+", "-", "@")
"""Spreadsheets take a cell that begins so for a formula."""

ANY_NAME = "surrogateescape"
"""Path text for tables that are read back: bytes that are not UTF-8 are preserved."""


def path_text(path: str | Path) -> str:
    """A path as text for tables: without control characters, in any encoding, no formula.

    Bytes that are not UTF-8 and control characters are written as escapes such as `\\xe4`.
    """
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return f"./{text}" if text[:1] in FORMULA_STARTS else text
