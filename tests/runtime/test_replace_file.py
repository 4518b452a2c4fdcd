"""A file is written beside the old one, which stays until the new one is whole."""

import pytest

from cellcount_jax.runtime.replace_file import replacing


@pytest.mark.parametrize("name", ["a.csv", "x" * 242 + ".csv"])
def test_the_old_file_stays_where_writing_fails(tmp_path, name):
    path = tmp_path / name
    path.write_text("4,000 dots")

    def fill_the_disk():
        with replacing(path) as file:
            file.write("21")
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        fill_the_disk()
    assert path.read_text() == "4,000 dots"
    with replacing(path, "wb") as file:
        file.write(b"new")
    assert path.read_bytes() == b"new"
    assert [p.name for p in tmp_path.iterdir()] == [name]
