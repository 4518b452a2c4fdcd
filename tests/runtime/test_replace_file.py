"""A file is written beside the old one, which stays until the new one is whole."""

import pytest

from cellcount_jax.runtime.replace_file import replacing, write_file


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


def test_a_file_of_an_earlier_call_is_kept_if_it_differs(tmp_path, caplog):
    path = tmp_path / "made" / "evaluation.csv"
    for content in ("one", "one", "two", b"three"):
        write_file(path, content, keep=True)
    found = {p.name: p.read_text() for p in path.parent.iterdir()}
    assert found == {
        "evaluation.csv": "three",
        "evaluation.before-1.csv": "one",
        "evaluation.before-2.csv": "two",
    }
    assert caplog.messages == [
        f"{path} is of an earlier call; kept as evaluation.before-{i}.csv" for i in (1, 2)
    ]
    write_file(path, "four")
    assert len(list(path.parent.iterdir())) == 3
