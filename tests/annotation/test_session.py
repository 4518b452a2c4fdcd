import os

import numpy as np
import pytest

from cellcount_jax.annotation.journal import Journal, JournalError
from cellcount_jax.annotation.records import State
from cellcount_jax.annotation.session import Session
from cellcount_jax.io.annotations.dots import Dots


def rows_of(session):
    rows = session.table.rows
    return [np.array(c) for c in (rows.points, rows.scores, rows.classes, rows.states)]


def same(one, other):
    # Removed dots may be anything: a dot that was undone before a restart is not there after it.
    n = min(len(one[3]), len(other[3]))
    for longer in (one, other):
        assert (longer[3][n:] == State.REMOVED).all()
    alive = one[3][:n] != State.REMOVED
    np.testing.assert_array_equal(one[3][:n], other[3][:n])
    for a, b in zip(one[:3], other[:3], strict=True):
        np.testing.assert_array_equal(a[:n][alive], b[:n][alive])


def do_everything(session):
    """One act of each kind."""
    first = session.add([3.25, 4.0])
    yield
    second = session.add([7.0, 8.125], class_index=2)
    yield
    session.move(first, [5.0, 5.0])
    yield
    session.set_class([second], 4)
    yield
    session.propose([[1.0, 1.0], [9.0, 2.0], [5.0, 5.5]], [0.9, 0.2, 0.7])
    yield
    session.accept([2])
    yield
    session.reject([3])
    yield
    session.reject_at([9.0, 9.0])
    yield
    session.remove([first])
    yield


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.png.journal"


def test_undo_and_redo_of_each_act_give_every_state_back(path):
    session = Session(path, (10, 10))
    states = [rows_of(session)]
    states += [rows_of(session) for _ in do_everything(session)]
    for before in states[-2::-1]:
        assert session.undo() is not None
        same(rows_of(session), before)
    assert session.undo() is None
    for after in states[1:]:
        assert session.redo() is not None
        same(rows_of(session), after)
    assert session.redo() is None


def test_a_reload_brings_back_dots_history_and_threshold(path):
    session = Session(path, (10, 10))
    states = [rows_of(session)]
    states += [rows_of(session) for _ in do_everything(session)]
    session.set_threshold(0.5)
    session.undo()
    session.close()
    again = Session(path, (10, 10))
    assert again.threshold == 0.5
    same(rows_of(again), states[-2])
    again.redo()
    same(rows_of(again), states[-1])
    for before in states[-2::-1]:
        again.undo()
        same(rows_of(again), before)
    assert again.undo() is None


def test_an_act_after_undo_ends_redo_also_after_a_reload(path):
    session = Session(path, (10, 10))
    session.add([1, 1])
    session.undo()
    session.add([2, 2])
    assert session.redo() is None
    session.close()
    again = Session(path, (10, 10))
    assert again.redo() is None
    np.testing.assert_array_equal(again.dots().points, [[2, 2]])


def test_a_torn_last_line_is_cut_off(path):
    session = Session(path, (10, 10))
    session.add([1, 1])
    session.add([2, 2])
    session.close()
    whole = path.read_bytes()
    start = whole.rfind(b'{"op":"act"')
    for cut in (start + 1, start + 20, whole.index(b"\n", start)):
        path.write_bytes(whole[:cut])
        again = Session(path, (10, 10))
        np.testing.assert_array_equal(again.dots().points, [[1, 1]])
        again.add([3, 3])
        again.close()
        assert len(Session(path, (10, 10)).dots()) == 2


def test_damage_in_the_middle_names_the_line(path):
    session = Session(path, (10, 10))
    session.add([1, 1])
    session.add([2, 2])
    session.close()
    lines = path.read_bytes().split(b"\n")
    lines[1] = lines[1][:10]
    path.write_bytes(b"\n".join(lines))
    free = os.open(os.devnull, os.O_RDONLY)  # the number that the next file gets
    os.close(free)
    with pytest.raises(JournalError, match="line 2: is damaged"):
        Session(path, (10, 10))
    assert os.open(os.devnull, os.O_RDONLY) == free  # the file was closed
    os.close(free)


def test_an_act_that_cannot_be_written_is_shouted_and_not_done(path, monkeypatch):
    session = Session(path, (10, 10))
    session.add([1, 1])
    size = path.stat().st_size

    def full(file, data):
        real(file, data[:5])
        raise OSError(28, "No space left on device")

    real = os.write
    monkeypatch.setattr("os.write", full)
    with pytest.raises(JournalError, match="NOT SAVED"):
        session.add([2, 2])
    with pytest.raises(JournalError, match="NOT SAVED"):
        session.undo()
    monkeypatch.undo()
    assert len(session.dots()) == 1
    assert path.stat().st_size == size
    session.add([3, 3])
    session.close()
    np.testing.assert_array_equal(Session(path, (10, 10)).dots().points, [[1, 1], [3, 3]])


def test_a_journal_of_another_image_is_refused(path):
    Session(path, (10, 10)).close()
    with pytest.raises(JournalError, match="belongs to an image of shape"):
        Session(path, (10, 12))


def test_hand_made_dots_never_vanish_by_the_threshold_or_new_proposals(path):
    session = Session(path, (50, 50))
    session.add([10, 10])
    session.propose([[10, 11], [20, 20], [30, 30]], [0.9, 0.8, 0.3])
    assert len(session.dots()) == 3  # the first proposal lies on the dot
    session.accept([1])
    session.set_threshold(2.0)
    np.testing.assert_array_equal(session.dots().points, [[10, 10], [20, 20]])
    session.propose([[40, 40]], [0.1])
    np.testing.assert_array_equal(session.dots().points, [[10, 10], [20, 20]])
    assert session.hard_negatives().shape == (0, 2)


def test_rejected_places_are_not_proposed_again(path):
    session = Session(path, (50, 50))
    session.reject_at([10, 10])
    assert session.propose([[10.5, 10.5], [20, 20]], [1.0, 1.0]) == 1
    np.testing.assert_array_equal(session.hard_negatives(), [[10, 10]])


def test_imported_dots_keep_classes_and_are_not_undone(path):
    session = Session(path, (50, 50))
    session.import_dots(Dots(np.array([[1.0, 2.0], [3.0, 4.0]]), None, ["neuron", "glia"]))
    assert session.undo() is None
    assert session.dots().labels == ["neuron", "glia"]
    session.close()
    assert Session(path, (50, 50)).dots().labels == ["neuron", "glia"]


def test_a_click_outside_is_refused(path):
    session = Session(path, (10, 10))
    with pytest.raises(ValueError, match="outside"):
        session.add([10.0, 3.0])
    session.add([9.49, -0.5])


def test_seconds_leave_pauses_out(path, monkeypatch):
    clock = iter([0.0, 2.0, 5.0, 500.0, 501.0])
    monkeypatch.setattr("time.time", lambda: next(clock))
    session = Session(path, (10, 10))
    for x in range(4):
        session.add([x, x])
    assert session.seconds() == 6.0


def test_the_journal_is_on_the_disk_when_an_act_returns(path):
    session = Session(path, (10, 10))
    session.add([1, 1])
    assert len(Journal(path).entries) == 2
