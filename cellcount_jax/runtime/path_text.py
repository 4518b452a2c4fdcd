"""Names of files, regions and groups as text that every table, page and screen can hold."""

import os
import re
from pathlib import Path

FORMULA_STARTS = ("=", "+", "-", "@")
"""Spreadsheets take a cell that begins so for a formula."""

ANY_NAME = "surrogateescape"
"""Path text for tables that are read back: bytes that are not UTF-8 are preserved."""


def path_text(path: str | Path) -> str:
    """A path as text for tables: without control characters, in any encoding, no formula.

    Bytes that are not UTF-8 and control characters are written as escapes such as `\\xe4`.
    """
    text = _printable(os.fsencode(path).decode("utf-8", "backslashreplace"))
    return f"./{text}" if text[:1] in FORMULA_STARTS else text


def cell_text(name: str) -> str:
    """A user's name of a region or group as text for tables: on one line, no formula.

    An apostrophe is put before what a spreadsheet would compute; numbers and lone signs stay.
    """
    text = _printable(name)
    is_sign = len(text) == 1 or re.fullmatch(r"[+-]\d+(\.\d+)?", text)
    return f"'{text}" if text[:1] in FORMULA_STARTS and not is_sign else text


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
