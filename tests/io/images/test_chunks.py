"""Parts of chunked arrays: every value once, in its place."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from cellcount_jax.io.images.chunks import length, overlap, split_by_chunks


@st.composite
def parts(draw: st.DrawFn) -> tuple[int, slice]:
    """Length of an axis and a part of it."""
    size = draw(st.integers(1, 40))
    start = draw(st.integers(0, size - 1))
    stop = draw(st.integers(start + 1, size))
    return size, slice(start, stop, draw(st.integers(1, 9)))


@settings(max_examples=200, deadline=None)
@given(parts(), parts(), st.integers(1, 9), st.integers(1, 9), st.integers(1, 6))
def test_split_by_chunks(
    rows: tuple[int, slice], columns: tuple[int, slice], high: int, wide: int, limit: int
) -> None:
    array = np.arange(rows[0] * columns[0]).reshape(rows[0], columns[0])
    slices = (rows[1], columns[1])
    result = np.full([length(s) for s in slices], -1)
    for inside, outside in split_by_chunks(slices, (high, wide), limit):
        assert (result[outside] == -1).all()
        result[outside] = array[inside]
        chunks = [
            (s.stop - 1) // c - s.start // c + 1 for s, c in zip(inside, (high, wide), strict=True)
        ]
        assert np.prod(chunks) <= limit
    np.testing.assert_array_equal(result, array[slices])


@settings(max_examples=200, deadline=None)
@given(parts(), st.integers(1, 9))
def test_overlap(part: tuple[int, slice], piece: int) -> None:
    array = np.arange(part[0])
    result = np.full(length(part[1]), -1)
    for start in range(0, part[0], piece):
        stop = min(start + piece, part[0])
        if (lap := overlap(part[1], start, stop)) is not None:
            result[lap[1]] = array[start:stop][lap[0]]
    np.testing.assert_array_equal(result, array[part[1]])
