"""Reading and comparing the golden pairs of several test files (tests/golden/README.md)."""

import numpy as np


def assert_close(got, expected, tolerance, *, relative=False):
    """max|got - expected| <= tolerance * max|expected|, at least `tolerance` unless relative."""
    got, expected = np.asarray(got), np.asarray(expected)
    assert got.shape == expected.shape
    size = np.abs(expected).max()
    bound = tolerance * (size if relative else max(1.0, size))
    worst = np.abs(got - expected).max()
    assert worst <= bound, f"off by {worst}, allowed {bound}"


def case(pairs, name):
    """The arrays of one case of a golden file, its prefix cut."""
    return {
        key.split("__")[1]: value for key, value in pairs.items() if key.startswith(name + "__")
    }
