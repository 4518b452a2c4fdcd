"""Fixtures of the tests of this folder."""

import pytest

from tests.inference.made_counters import bright_counter


@pytest.fixture(scope="module")
def counter():
    return bright_counter()
