"""Bytes to text, and text to JSON, without surprises."""

import codecs
import json
import re
from typing import Any, NoReturn

from cellcount_jax.io.annotations import base

_NOT_TEXT = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")


def decode(source: base.Source) -> str:
    """Text of a file in UTF-8, UTF-16 with a byte-order mark, or else Windows-1252.

    Line ends become a line feed.
    """
    data = source.data
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encodings = ["utf-16"]
    else:
        encodings = ["utf-8-sig", "cp1252", "latin-1"]
    for encoding in encodings:
        try:
            text = data.decode(encoding)
            break
        except UnicodeDecodeError:
            continue
    else:
        source.fail("is not readable as text (UTF-16). Save it as UTF-8")
    found = _NOT_TEXT.search(text)
    if found:
        line = text.count("\n", 0, found.start()) + 1
        source.fail("is neither text nor any known binary format of dots", line)
    return text.replace("\r\n", "\n").replace("\r", "\n")


def kind(source: base.Source) -> str:
    """`xml`, `json` or `table`, from the first character."""
    start = source.once(decode).lstrip()[:1]
    if start == "<":
        return "xml"
    return "json" if start in ("{", "[") else "table"


def parse_json(source: base.Source) -> Any:
    """JSON value of a file; NaN and Infinity, which JSON does not have, are errors."""

    def constant(word: str) -> NoReturn:
        raise ValueError(f"{word} is no coordinate")

    try:
        return json.loads(source.once(decode), parse_constant=constant)
    except json.JSONDecodeError as error:
        source.fail(f"broken JSON ({error.msg})", error.lineno)
    except RecursionError:
        source.fail("broken JSON (nested too deeply)")
    except ValueError as error:
        source.fail(f"broken JSON ({base.one_line(error)})")


def dump_json(value: Any) -> bytes:
    """JSON bytes, never with NaN."""
    return (json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n").encode()
