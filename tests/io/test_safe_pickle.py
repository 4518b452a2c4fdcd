"""Pickles are read without running what they name, in memory of the order of their size."""

import io
import os
import pickle
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from cellcount_jax.io import safe_pickle


def load(data: bytes, **options: Any) -> Any:
    options = {"allowed": {}} | options
    return safe_pickle.load(io.BytesIO(data), size=len(data), **options)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_values(protocol: int) -> None:
    value = {"a": [1, 2.5, None, True, (1, 2), "text", -(2**70)], "b": {"c": {3, 4}}, "d": []}
    sets = {("builtins", "set"): set, ("__builtin__", "set"): set}
    assert load(pickle.dumps(value, protocol), allowed=sets) == value


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_bytes(protocol: int) -> None:
    value = [b"bytes", bytearray(b"more")]
    names = {("builtins", "bytearray"): bytearray}
    assert load(pickle.dumps(value, protocol), allowed=names) == value


class Harmful:
    """Its pickle makes a folder when it is run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_names_are_errors_or_records(tmp_path: Path, protocol: int) -> None:
    data = pickle.dumps({"before": 1, "harm": Harmful(tmp_path / "harm")}, protocol)
    with pytest.raises(
        pickle.UnpicklingError, match=r"it asks for \w+\.mkdir, which is not allowed"
    ):
        load(data)
    value = load(data, keep_records=True)
    assert value["before"] == 1
    assert value["harm"].name.endswith(".mkdir")
    assert value["harm"].arguments == (str(tmp_path / "harm"),)
    assert not list(tmp_path.iterdir())
    pickle.loads(data)
    assert list(tmp_path.iterdir())  # the pickle was harmful


def test_state_never_reaches_an_allowed_function() -> None:
    def allowed(*arguments: Any) -> tuple[Any, ...]:
        return arguments

    names = {("a", "b"): allowed}
    state = pickle.dumps((None, {"__kwdefaults__": {"x": 1}}), 2)[2:-1]
    assert load(b"\x80\x02ca\nb\n" + state + b"b)R.", allowed=names) == ()
    assert allowed.__kwdefaults__ is None
    record = load(b"\x80\x02cx\ny\n" + state + b"b.", keep_records=True)
    assert record.state == (None, {"__kwdefaults__": {"x": 1}})


HUGE = 1 << 40


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x05\x96" + struct.pack("<Q", HUGE) + b"abc.",  # bytearray
        b"\x80\x05\x8e" + struct.pack("<Q", HUGE) + b"abc.",  # bytes
        b"\x80\x05\x8d" + struct.pack("<Q", HUGE) + b"abc.",  # text
        b"\x80\x05\x95" + struct.pack("<Q", HUGE) + b"abc.",  # frame
        b"\x80\x02\x8b" + struct.pack("<i", 2**31 - 1) + b"abc.",  # number
    ],
)
def test_declared_sizes_are_checked_before_memory_is_taken(data: bytes) -> None:
    with pytest.raises(pickle.UnpicklingError, match="cut short"):
        load(data)


def test_memo_indices_take_no_memory() -> None:
    tracemalloc.start()
    assert load(b"\x80\x02Nr\xff\xff\xff\x7f.") is None
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20


def test_long_arguments_are_not_copied_again_and_again() -> None:
    many = b"(" + b"N" * 1000 + b"tq\x00"
    with pytest.raises(pickle.UnpicklingError, match="passes 1000 arguments"):
        load(b"\x80\x02" + many + b"ca\nb\nh\x00R.", keep_records=True)


@pytest.mark.parametrize("data", [b"", b".", b"\x80", b"\x80\x02", b"not a pickle", b"\xff", b"0."])
def test_damage_is_one_kind_of_error(data: bytes) -> None:
    with pytest.raises(pickle.UnpicklingError, match="damaged pickle"):
        load(data)


def test_the_position_moves_to_the_end() -> None:
    stream = io.BytesIO(pickle.dumps(1) + pickle.dumps(2))
    size = len(stream.getvalue())
    assert safe_pickle.load(stream, size=size, allowed={}) == 1
    assert safe_pickle.load(stream, size=size - stream.tell(), allowed={}) == 2
