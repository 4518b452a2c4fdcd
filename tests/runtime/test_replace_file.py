"""A file is written beside the old one, which stays until the new one is whole."""

import pytest

from cellcount_jax.runtime.error_text import one_line
from cellcount_jax.runtime.replace_file import naming, replacing, write_file


@pytest.mark.parametrize("name", ["a.csv", "x" * 242 + ".csv"])
def test_the_old_file_stays_where_writing_fails(tmp_path, name):
    path = tmp_path / name
    path.write_text("4,000 dots")

    def fill_the_disk():
        with replacing(path) as file:
            file.write("21")
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left") as raised:
        fill_the_disk()
    assert str(raised.value).startswith(f"{path}: cannot be written (No space left on device), and")
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


def test_an_error_about_another_file_is_not_changed(tmp_path):
    def read_while_writing():
        with replacing(tmp_path / "a.csv"):
            (tmp_path / "absent.csv").read_text()

    with pytest.raises(FileNotFoundError, match=r"absent\.csv") as raised:
        read_while_writing()
    assert one_line(raised.value) == f"{tmp_path / 'absent.csv'}: No such file or directory"


def test_a_file_beside_which_nothing_can_be_written_is_named_itself(tmp_path):
    with (
        pytest.raises(OSError, match=r"a\.csv: cannot be written") as raised,
        naming(tmp_path / "a.csv", tmp_path / ".new"),
    ):
        raise PermissionError(13, "Permission denied", str(tmp_path / ".new"))
    assert ".new" not in str(raised.value)
