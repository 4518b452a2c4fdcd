import numpy as np
import pytest

from cellcount_jax.annotation.records import State
from cellcount_jax.io.annotations.dots import read_dots
from cellcount_jax.io.pairing import find_pairs
from cellcount_jax.napari.drawing import view
from cellcount_jax.napari.workspace import workspace_of
from tests.napari.conftest import wait_for


def session_of(hand):
    return workspace_of(hand.viewer).session


def near(points, expected, tolerance=1.0):
    points = np.asarray(points)
    assert points.shape == np.shape(expected), (points, expected)
    np.testing.assert_allclose(points, expected, atol=tolerance)


def panel(hand, name):
    from cellcount_jax.napari import annotate_widget, count_widget, queue_widget

    kinds = {
        "annotate": annotate_widget.AnnotateWidget,
        "count": count_widget.CountWidget,
        "queue": queue_widget.QueueWidget,
    }
    return hand.viewer.window._qt_window.findChild(kinds[name])


def test_every_act_by_mouse_and_keys_with_undo_and_redo(images, opened):
    hand = opened(images)
    session = session_of(hand)
    steps = [
        (lambda: hand.click([30, 40]), [[30, 40]]),
        (lambda: hand.click([80, 90]), [[30, 40], [80, 90]]),
        (lambda: hand.drag([30, 40], [50, 45]), [[50, 45], [80, 90]]),
        (lambda: hand.click([80, 90]), [[50, 45]]),
        (lambda: hand.click([20, 20]), [[50, 45], [20, 20]]),
    ]
    for act, expected in steps:
        act()
        near(session.dots().points, expected)
    for _, expected in steps[-2::-1]:
        hand.key("Z", control=True)
        near(session.dots().points, expected)
    hand.key("Z", control=True)
    assert len(session.dots()) == 0
    for _, expected in steps:
        hand.key("Y", control=True)
        near(session.dots().points, expected)
    hand.screenshot("2d-dots")


def test_classes_by_key(images, opened):
    hand = opened(images)
    session = session_of(hand)
    hand.key("W")
    hand.click([30, 40])
    assert session.table.rows.classes.tolist() == [1]
    workspace_of(hand.viewer).annotator.select(0)
    for index, key in enumerate("QWERTY"):
        hand.key(key)
        assert session.table.rows.classes.tolist() == [index]
    hand.key("Z", control=True)
    assert session.table.rows.classes.tolist() == [4]
    hand.key("Y", control=True)
    assert session.table.rows.classes.tolist() == [5]
    assert panel(hand, "annotate").numbers[5].text() == "1"
    hand.screenshot("2d-classes")


def test_a_right_click_keeps_hard_negatives(images, opened):
    hand = opened(images)
    session = session_of(hand)
    hand.click([30, 40])
    hand.click([30, 40], right=True)
    hand.click([90, 90], right=True)
    assert len(session.dots()) == 0
    near(session.hard_negatives(), [[30, 40], [90, 90]])
    hand.key("Z", control=True)
    hand.key("Z", control=True)
    near(session.dots().points, [[30, 40]])
    hand.key("Y", control=True)
    near(session.hard_negatives(), [[30, 40]])


def test_a_drag_on_nothing_pans_and_adds_no_dot(images, opened):
    hand = opened(images)
    before = view.camera(hand.viewer).center
    hand.drag([30, 40], [60, 60])
    assert len(session_of(hand).dots()) == 0
    assert view.camera(hand.viewer).center != before


def test_space_hides_all_dots(images, opened):
    hand = opened(images)
    hand.click([30, 40])
    hand.key("Space")
    assert not hand.viewer.layers["cells"].visible
    hand.click([60, 60])
    assert len(session_of(hand).dots()) == 1
    hand.key("Space")
    assert hand.viewer.layers["cells"].visible


@pytest.mark.parametrize("method", ["otsu", "log", "model"])
def test_propose_jump_accept_reject(images, opened, method):
    hand = opened(images)
    session, widget = session_of(hand), panel(hand, "annotate")
    hand.click([5, 5])
    widget.method.setCurrentText(method)
    widget.propose_button.click()
    wait_for(lambda: (session.table.rows.states == State.PROPOSED).any())
    n = len(session.dots())
    assert n > 10
    annotator = workspace_of(hand.viewer).annotator
    hand.key("N")
    first = annotator.current
    assert first is not None
    centre = view.camera(hand.viewer).center[-2:]
    near(centre, session.table.rows.points[first])
    hand.key("Return")
    assert session.table.rows.states[first] == State.ACCEPTED
    second = annotator.current
    assert second != first
    hand.key("X")
    assert session.table.rows.states[second] == State.REJECTED
    hand.key("P")
    hand.key("P")
    assert annotator.current in (first, second)  # judged dots stay in the list
    hand.screenshot(f"2d-proposals-{method}")
    for _ in range(3):
        hand.key("Z", control=True)
    near(session.dots().points, [[5, 5]])
    hand.key("Y", control=True)
    assert len(session.dots()) == n


def test_save_reload_and_undo_after_the_reload(images, opened):
    hand = opened(images)
    hand.click([30, 40])
    hand.click([80, 90])
    hand.key("S", control=True)
    (saved,) = find_pairs(images)[1].values()
    near(read_dots(saved).points, [[30, 40], [80, 90]])
    workspace = workspace_of(hand.viewer)
    first = workspace.image.path
    assert panel(hand, "annotate").progress.text() == "1 of 3 images, 2 dots"
    workspace.open_image(workspace.next_of_queue())
    assert workspace.image.path != first
    assert len(workspace.session.dots()) == 0
    workspace.open_image(first)
    near(workspace.session.dots().points, [[30, 40], [80, 90]])
    hand.key("Z", control=True)
    near(workspace.session.dots().points, [[30, 40]])


def test_a_failed_save_is_shouted(images, opened, monkeypatch):
    hand = opened(images)
    hand.click([30, 40])

    def full(file, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.write", full)
    hand.click([80, 90])
    assert view.text_overlay(hand.viewer).visible
    assert "NOT SAVED" in view.text_overlay(hand.viewer).text
    monkeypatch.undo()
    assert len(session_of(hand).dots()) == 1
    hand.click([80, 90])
    assert not view.text_overlay(hand.viewer).visible
    assert len(session_of(hand).dots()) == 2


def test_a_removed_dot_is_gone_from_the_picture(images, opened):
    hand = opened(images)
    canvas = hand.screenshot("2d-before")[..., :3].astype(int)
    hand.click([30, 40])
    hand.click([80, 90], right=True)
    both = hand.screenshot("2d-one-dot")[..., :3].astype(int)
    for point in ([30, 40], [80, 90]):
        assert np.abs(around(hand, both, point) - around(hand, canvas, point)).max() > 60
    hand.key("Z", control=True)
    hand.click([30, 40])
    np.testing.assert_allclose(hand.screenshot("2d-removed")[..., :3], canvas, atol=2)


def around(hand, canvas, point):
    """The pixels of the screen around a place."""
    at = hand.screen(point).toPoint()
    return canvas[at.y() - 8 : at.y() + 9, at.x() - 8 : at.x() + 9]


def test_the_panel_of_annotation_is_in_front_at_the_start(images, opened):
    hand = opened(images)
    wait_for(lambda: not panel(hand, "annotate").visibleRegion().isEmpty(), seconds=10)
