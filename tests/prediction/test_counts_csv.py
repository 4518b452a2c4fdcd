"""Tables with damaged lines: what is whole is kept, and the damaged table stays beside."""

import re

import pytest
from PIL import Image

from cellcount_jax.prediction import contents, counts_csv, predict_files
from tests.inference.made_counters import bright_counter, cells

HEAD = ",".join(counts_csv.ALWAYS)
ROW = "{},1,1,40,32,m,0.1.0,ok,"


def table(path, *lines: str):
    path.write_bytes("\n".join([HEAD, *lines, ""]).encode())
    return path


@pytest.mark.parametrize("line", ["a,1,1", "b" + ",1" * 30, '"c,1', "d\re,1,1", "\0\0\0"])
def test_a_damaged_line_loses_no_other_and_a_copy_stays(tmp_path, line, caplog):
    path = table(tmp_path / "counts.csv", ROW.format("whole.png"), line)
    damaged = path.read_bytes()
    rows, _ = counts_csv.begin(path, {"model": "m"})
    assert [row["image"] for row in rows] == ["whole.png"]
    assert (tmp_path / "counts.before-1.csv").read_bytes() == damaged
    assert re.search(r"damaged lines, left out; .*counts\.before-1\.csv", caplog.text)


@pytest.mark.parametrize(
    "data", [b"", b"\n", b"x" * 200_000, b"\xff\xfe\0a", b'"', b"image\na", b"a,b\n1,2\n3"]
)
def test_what_is_no_table_has_no_rows(tmp_path, data):
    path = tmp_path / "counts.csv"
    path.write_bytes(data)
    assert counts_csv.read(path) == []
    assert counts_csv.begin(path, {"model": "m"}) == ([], {})


def test_a_line_that_a_killed_run_left_is_not_called_damaged(tmp_path, caplog):
    path = table(tmp_path / "counts.csv", ROW.format("a.png"), ROW.format("b.png"))
    path.write_bytes(path.read_bytes() + b"c.png,1,")
    rows, _ = counts_csv.begin(path, {"model": "m"})
    assert [row["image"] for row in rows] == ["a.png", "b.png"]
    assert not caplog.text
    assert [p.name for p in tmp_path.iterdir()] == ["counts.csv"]


def test_shards_with_damaged_lines_are_not_merged(tmp_path):
    table(tmp_path / "counts.shard-1-of-1.csv", ROW.format("a.png"), "b,1")
    with pytest.raises(ValueError, match=r"counts\.shard-1-of-1\.csv: has damaged lines"):
        counts_csv.merge(tmp_path)


def test_a_row_without_a_fingerprint_gets_one(tmp_path):
    path, out = tmp_path / "a.png", tmp_path / "out"
    Image.fromarray(cells((40, 32), 1)).save(path)
    predict_files.count_files(bright_counter(), path, out)
    (out / ".counts.contents.json").unlink()  # as a killed run leaves it
    predict_files.count_files(bright_counter(), path, out)
    known = contents.read(out / "counts.csv")
    assert known == {str(path): contents.fingerprint(path)}
