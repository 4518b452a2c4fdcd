"""Names of files as text for tables."""

import pytest

from cellcount_jax.runtime.path_text import cell_text, path_text


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a b/ä$.png", "a b/ä$.png"),
        ("a\rb\nc\x1b", "a\\rb\\nc\\x1b"),
        (b"\xe4.png".decode("utf-8", "surrogateescape"), "\\xe4.png"),
        ("=1+1", "./=1+1"),
        ("-a", "./-a"),
    ],
)
def test_names_become_text_of_one_line_that_is_no_formula(name, text):
    assert path_text(name) == text
    assert path_text(text) == text
    text.encode()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("CA1 (left)", "CA1 (left)"),
        ("=1+1", "'=1+1"),
        ("+drug", "'+drug"),
        ("@home", "'@home"),
        ("-", "-"),
        ("-1.5", "-1.5"),
        ("a\r\nb\ud800", "a\\r\\nb\\ud800"),
    ],
)
def test_names_of_regions_and_groups_are_no_formulas_and_on_one_line(name, text):
    assert cell_text(name) == text
    text.encode()
