"""Help for the tests of dots: writing a file, its one-line error, comparing dots."""

import re
from pathlib import Path

import numpy as np
import pytest

from cellcount_jax.io.annotations.dots import Dots, read_dots


def file_of(tmp_path: Path, text: str | bytes, name: str = "dots.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def fails(path: Path, **options) -> str:
    """Message of the error, which is one line that starts with the file."""
    with pytest.raises(ValueError, match=re.escape(str(path))) as caught:
        read_dots(path, **options)
    text = str(caught.value)
    assert text.startswith(str(path))
    assert "\n" not in text
    return text.removeprefix(str(path))


def same(read: Dots, points, scores=None, labels=None) -> None:
    assert read.points.dtype == np.float32
    np.testing.assert_array_equal(read.points, np.asarray(points, np.float32))
    if scores is not None:
        np.testing.assert_array_equal(read.scores, np.asarray(scores, np.float32))
    if labels is not None:
        assert list(read.labels) == list(labels)
