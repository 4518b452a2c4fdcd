"""The checker finds what is wrong, says why, and is silent about good dots."""

from pathlib import Path

import numpy as np
import pytest

from cellcount_jax.io.annotations.dots import Dots, write_dots
from cellcount_jax.io.annotations.validate import check_dots


def _kinds(*arguments) -> list[str]:
    return [finding.kind for finding in check_dots(*arguments)]


def _spread(shape: tuple[int, ...], count: int = 200) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.uniform(0, np.array(shape) - 1, (count, len(shape))).astype(np.float32)


@pytest.mark.parametrize("shape", [(520, 696), (30, 200, 300)])
def test_good_dots_give_nothing(shape):
    points = _spread(shape)
    assert check_dots(points, shape) == []
    assert check_dots(Dots(np.rint(points)), shape) == []
    assert check_dots(np.zeros((0, len(shape))), shape) == []


def test_outside_names_file_and_line(tmp_path: Path):
    path = tmp_path / "dots.csv"
    path.write_text("y,x\n5,6\n530,888\n7,8\n")
    (finding,) = check_dots(path, (520, 696))
    assert (finding.kind, finding.place) == ("outside", "line 3")
    assert str(finding).startswith(
        f"{path}, line 3: dot (y=530.0, x=888.0) lies outside the image (520 high, 696 wide)."
    )


def test_other_formats_name_their_items(tmp_path: Path):
    path = tmp_path / "dots.zip"
    write_dots(path, np.array([[5.0, 6], [530, 888]]))
    (finding,) = check_dots(path, (520, 696))
    assert finding.place == "region 1"


def test_swapped():
    points = _spread((520, 696))[:, ::-1]
    first, *rest = check_dots(points, (520, 696))
    assert first.kind == "swapped"
    assert 'order="xy"' in str(first)
    assert [finding.kind for finding in rest] == ["outside"] * 21
    assert str(rest[0]).endswith("wide).")  # the reason is said once
    assert "more such dots" in str(rest[-1])
    # One of many is a mistake, not a swap.
    mistake = np.concatenate([_spread((520, 696)), [[600, 80]]])
    assert _kinds(mistake, (520, 696)) == ["outside"]
    # A few dots too far on both axes are not explained by a swap.
    assert "swapped" not in _kinds(np.array([[600.0, 700], [5, 5]]), (520, 696))


def test_duplicates(tmp_path: Path):
    path = tmp_path / "dots.csv"
    path.write_text("y,x\n5,6\n1,2\n5,6\n5,6\n")
    texts = [str(finding) for finding in check_dots(path, (20, 20))]
    assert texts == [f"{path}, line {n}: repeats the dot at line 2" for n in (4, 5)]


def test_counting_from_one():
    points = np.array([[1.0, 5], [20, 9], [7, 30]])
    assert _kinds(points, (20, 30)) == ["counts_from_one", "outside", "outside"]
    assert "counts_from_one" not in _kinds(points - 1, (20, 30))
    assert "counts_from_one" not in _kinds(points + 0.25, (20, 30))


def test_physical_units():
    points = _spread((520, 696))
    assert _kinds(points * 0.2, (520, 696)) == ["physical_units"]
    assert _kinds(points * 0.45, (520, 696)) == []
    volume = _spread((30, 200, 300)) * [2, 0.3, 0.3]
    assert "physical_units" in _kinds(volume, (30, 200, 300))


def test_unreadable_is_a_finding(tmp_path: Path):
    path = tmp_path / "dots.csv"
    path.write_text("y,x\n1,nan\n")
    (finding,) = check_dots(path, (20, 20))
    assert finding.kind == "unreadable"
    assert str(finding).startswith(f"{path}, line 2: x is 'nan'")
    assert _kinds(tmp_path / "missing.csv", (20, 20)) == ["unreadable"]


def test_many_findings_are_not_all_listed():
    points = np.full((100_000, 2), 1e4, np.float32)
    findings = check_dots(points, (20, 20))
    assert len(findings) == 2 * 21
