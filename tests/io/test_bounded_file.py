"""Reads of more bytes than a file holds."""

import io
from pathlib import Path

import pytest

from cellcount_jax.io.bounded_file import BoundedFile


@pytest.mark.parametrize("size", [10**17, 10, None, -1])
def test_what_is_left_is_read(tmp_path: Path, size: int | None) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"0123456789")
    with BoundedFile(path) as file:
        assert file.read(size) == b"0123456789"
        assert file.read(size) == b""
        file.seek(4)
        assert file.read(2) == b"45"
        assert file.read(size) == b"6789"
        file.seek(3, io.SEEK_END)
        assert file.read(size) == b""
    assert file.closed
