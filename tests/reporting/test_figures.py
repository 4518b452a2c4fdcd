"""Images with their points drawn on them."""

import pytest

from cellcount_jax.reporting import figures


@pytest.mark.parametrize(("length", "shown"), [(0, 0), (36, 36), (37, 36), (70, 36)])
def test_a_long_name_keeps_both_of_its_ends(length, shown):
    name = "".join(chr(ord("a") + i % 26) for i in range(length))
    found = figures.shortened(name)
    assert len(found) == shown
    assert name.startswith(found[:17])
    assert name.endswith(found[-16:])
