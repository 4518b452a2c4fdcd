"""Images with more dots than are drawn one by one."""

import numpy as np
import pytest
import tifffile

from cellcount_jax.annotation.records import State
from cellcount_jax.napari.drawing import dots_layers, view
from cellcount_jax.napari.drawing.appearance import overview_colours
from cellcount_jax.napari.drawing.overview import NAME, square_side, stamp
from cellcount_jax.napari.images import images_to_annotate
from cellcount_jax.napari.workspace import workspace_of

SIDE, N = 1024, 3000


@pytest.fixture
def many(tmp_path, opened, monkeypatch):
    """A viewer on an image with 3,000 proposals, of which at most 200 are drawn one by one."""
    monkeypatch.setattr(dots_layers, "MAX_POINTS", 200)
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 120, (SIDE, SIDE), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", pixels)
    hand = opened(tmp_path)
    annotator = workspace_of(hand.viewer).annotator
    annotator.do(annotator.session.propose, rng.uniform(0, SIDE - 1, (N, 2)), rng.random(N))
    return hand


def drawn(layer):
    """Points that can be seen."""
    visible = (layer.border_color[:, 3] > 0) & layer.shown & (layer.size > 0)
    return layer.data[visible]


def expected(hand, box):
    """Counted dots in a box."""
    session = workspace_of(hand.viewer).session
    points = session.table.rows.points[session.is_counted()]
    return points[box.holds(points)]


def rows(points):
    return sorted(map(tuple, np.asarray(points, np.float32).tolist()))


def test_stamp_against_a_loop():
    rng = np.random.default_rng(0)
    at = rng.integers(-3, 15, (40, 2))
    colours = rng.integers(1, 256, (40, 4)).astype(np.uint8)
    reference = np.zeros((12, 9, 4), np.uint8)
    for (y, x), colour in zip(at, colours, strict=True):
        for v in range(y - 1, y + 2):
            for u in range(x - 1, x + 2):
                if 0 <= v < 12 and 0 <= u < 9:
                    reference[v, u] = colour
    np.testing.assert_array_equal(stamp(at, colours, shape=(12, 9), side=3), reference)
    assert stamp(at[:0], colours[:0], shape=(2, 2), side=3).sum() == 0


def test_squares_do_not_cover_everything():
    assert square_side(10, (100, 100), largest=7.9) == 7
    assert square_side(10, (100, 100), largest=0.1) == 3
    assert square_side(10_000, (100, 100), largest=7) == 1


def test_acts_in_an_overview_and_their_undo_are_drawn_as_if_all_were(many):
    hand, workspace = many, workspace_of(many.viewer)
    annotator, layers = workspace.annotator, workspace.annotator.layers
    session, rng = annotator.session, np.random.default_rng(1)
    hand.viewer.reset_view()
    hand.settle()
    assert layers.is_overview
    assert layers.overview.layer.visible
    assert len(drawn(layers.cells)) == 0
    hand.screenshot("2d-overview")
    acts = [
        lambda: annotator.do(session.add, rng.uniform(0, SIDE - 1, 2)),
        lambda: annotator.do(session.remove, [int(rng.integers(N))]),
        lambda: annotator.do(session.move, int(rng.integers(N)), rng.uniform(0, SIDE - 1, 2)),
        lambda: annotator.do(session.set_class, [int(rng.integers(N))], 3),
        lambda: annotator.do(session.reject, [int(rng.integers(N))]),
        annotator.undo,
        annotator.redo,
    ]
    first = layers.overview.layer.data.copy()
    for number in rng.integers(len(acts), size=60):
        acts[number]()
    patched = layers.overview.layer.data.copy()
    assert (patched != first).any()
    layers.show_all()
    np.testing.assert_array_equal(patched, layers.overview.layer.data)
    while session.done[1:]:
        annotator.undo()
    layers.show_all()
    np.testing.assert_array_equal(first, layers.overview.layer.data)


def test_zoomed_in_the_layer_has_the_dots_in_view_after_any_act_and_move(many):
    hand, workspace = many, workspace_of(many.viewer)
    annotator, layers = workspace.annotator, workspace.annotator.layers
    session, rng = annotator.session, np.random.default_rng(2)
    camera = view.camera(hand.viewer)
    camera.zoom = 4.0
    for step in range(30):
        annotator.centre_on(rng.uniform(200, 800, 2))
        box = view.in_view(hand.viewer, layers.cells)
        inside = np.flatnonzero(session.is_counted() & box.holds(session.table.rows.points))
        if step % 3 == 0:
            annotator.do(session.add, (box.low + box.high) / 2)
        elif step % 3 == 1:
            annotator.do(session.remove, [inside[0]])
            annotator.do(session.move, int(inside[1]), (box.low + box.high) / 2 + 3)
        else:
            annotator.undo()
            annotator.undo()
            annotator.redo()
        assert not layers.is_overview
        found = drawn(layers.cells)
        assert rows(found[box.holds(found)]) == rows(expected(hand, box))
        assert len(found) < N / 2
    annotator.centre_on(expected(hand, view.in_view(hand.viewer, layers.cells))[0])
    hand.screenshot("2d-zoomed-in")


def test_clicks_in_an_overview_and_after_zooming_in(many):
    hand, workspace = many, workspace_of(many.viewer)
    session, layers = workspace.session, workspace.annotator.layers
    hand.viewer.reset_view()
    hand.settle()
    n = len(session.dots())
    hand.click(session.table.rows.points[7])
    assert len(session.dots()) == n - 1
    hand.key("Z", control=True)
    assert len(session.dots()) == n
    hand.key("Space")
    assert not layers.overview.layer.visible
    hand.key("Space")
    assert layers.overview.layer.visible
    view.camera(hand.viewer).zoom = 5.0
    hand.settle()
    assert not layers.overview.layer.visible
    hand.key("N")
    hand.key("X")
    assert (session.table.rows.states == State.REJECTED).sum() == 1


def test_a_proposal_and_a_place_marked_as_no_cell_look_different_in_an_overview(many):
    session = workspace_of(many.viewer).session
    session.reject([0])
    session.accept([1])
    colours = overview_colours(session.table.get([0, 1, 2]))
    assert len(np.unique(colours, axis=0)) == 3


def test_layers_that_the_plugin_draws_are_not_offered_as_images(many):
    viewer = many.viewer
    viewer.layers.selection.active = viewer.layers[NAME]
    assert [layer.name for layer in images_to_annotate(viewer.layers)] == ["a.tif"]
