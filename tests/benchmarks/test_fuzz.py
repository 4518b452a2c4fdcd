"""Seeds of every parser that is fuzzed give no finding, and the limits name what goes wrong."""

import logging
import os
import sys

import pytest

from benchmarks.exactness import fuzz
from benchmarks.exactness.fuzz_targets import TARGETS, Target

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_are_read_without_a_finding(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    target = TARGETS[name]
    seeds = target.seeds()
    assert seeds
    for data in seeds:
        path = tmp_path / target.name
        path.write_bytes(data)
        assert fuzz.finding(target, path) is None


def test_what_is_wrong_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(fuzz, "MAX_SECONDS", 0.05)
    path = tmp_path / "a.txt"

    def busy(path: os.PathLike) -> None:
        while True:
            logging.debug("%s", path)

    def foreign(path: os.PathLike) -> None:
        raise KeyError(path)

    def nameless(path: os.PathLike) -> None:
        raise ValueError("no file is named here")

    def named(path: os.PathLike) -> None:
        raise ValueError(f"{path}: is damaged")

    def found(parse) -> str | None:
        return fuzz.finding(Target(parse, list, path.name), path)

    assert found(named) is None
    assert found(busy).startswith("over 0 s")
    assert found(foreign).startswith("KeyError, test_fuzz.py:")
    assert found(nameless).startswith("an error that does not name the file")
