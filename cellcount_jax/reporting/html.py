"""Self-contained HTML pages: the page shell, tables, and figures embedded as images."""

import base64
import html
from collections.abc import Iterable, Sequence
from typing import Any

from matplotlib.figure import Figure

from cellcount_jax.reporting import figures

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1d2433; max-width: 1080px; margin: 2em auto;
  padding: 0 1em }
h1 { font-size: 1.6em; margin-bottom: 0 } h2 { font-size: 1.15em; margin-top: 2em }
table { border-collapse: collapse } td, th { padding: .25em .9em .25em 0; text-align: left }
th { font-weight: 600; border-bottom: 1px solid #ccd } td.n { text-align: right;
  font-variant-numeric: tabular-nums }
dt { font-weight: 600 } dd { margin: 0 0 .4em 1.5em; color: #667 }
.row { display: flex; flex-wrap: wrap; gap: 1em; align-items: flex-start }
img { max-width: 100% } .note { color: #667 } .wide { overflow-x: auto }
.warning { background: #fff3cd; border: 1px solid #e0b400; padding: .7em 1em; border-radius: 4px }
"""


def page(title: str, body: Sequence[str]) -> str:
    """A whole HTML document of parts that are HTML already."""
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8>"
        f"<meta name=viewport content='width=device-width, initial-scale=1'>"
        f"<title>{text(title)}</title><style>{STYLE}</style><body>{chr(10).join(body)}</body>"
        "</html>\n"
    )


def text(value: Any) -> str:
    """Any value as escaped text."""
    return html.escape(str(value))


def number(value: Any, digits: int = 3) -> str:
    """A value as escaped text, floats rounded; None is a dash."""
    if value is None:
        return "-"
    return f"{value:.{digits}f}" if isinstance(value, float) else text(value)


def image(figure: Figure, *, alt: str) -> str:
    """An HTML image with the figure inside; `alt` says what it shows."""
    data = base64.b64encode(figures.png(figure)).decode()
    return f'<img alt="{text(alt)}" src="data:image/png;base64,{data}">'


def row(*parts: str) -> str:
    """Parts beside each other, as far as the page is wide enough."""
    return f"<div class=row>{''.join(parts)}</div>"


def note(content: str) -> str:
    """A paragraph of explanation, HTML already."""
    return f"<p class=note>{content}</p>"


def listed(lines: Iterable[str]) -> str:
    """HTML list of escaped texts."""
    return "<ul>" + "".join(f"<li>{text(line)}</li>" for line in lines) + "</ul>"


def definitions(rows: Iterable[tuple[str, str]]) -> str:
    """HTML list of terms and what they mean, both escaped here."""
    each = (f"<dt>{text(term)}</dt><dd>{text(meaning)}</dd>" for term, meaning in rows)
    return f"<dl>{''.join(each)}</dl>"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """HTML table of escaped texts; all but the first column are right-aligned."""
    cells = "".join(
        "<tr>"
        + "".join(f"<td{' class=n' if i else ''}>{c}</td>" for i, c in enumerate(row))
        + "</tr>"
        for row in rows
    )
    header = "".join(f"<th>{h}</th>" for h in head)
    return f"<div class=wide><table><tr>{header}</tr>{cells}</table></div>"
