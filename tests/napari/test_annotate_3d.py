import numpy as np

from cellcount_jax.napari.drawing import point_rows
from cellcount_jax.napari.workspace import workspace_of
from tests.napari.test_annotate_2d import near, panel, session_of


def to_slice(hand, z):
    scale = hand.viewer.layers["cells"].scale
    hand.viewer.dims.set_point(0, z * scale[0])
    hand.settle()


def test_acts_on_slices_and_the_view_follows_undo(volumes, opened):
    hand = opened(volumes)
    session = session_of(hand)
    assert tuple(hand.viewer.layers["cells"].scale) == tuple(session.spacing)
    assert session.spacing[0] != session.spacing[1]
    to_slice(hand, 4)
    hand.click([4, 30, 40])
    to_slice(hand, 12)
    hand.click([12, 60, 60])
    hand.drag([12, 60, 60], [12, 70, 50])
    near(session.dots().points, [[4, 30, 40], [12, 70, 50]])
    to_slice(hand, 0)
    hand.key("Z", control=True)
    near(session.dots().points, [[4, 30, 40], [12, 60, 60]])
    annotator = workspace_of(hand.viewer).annotator
    assert annotator.layers.slice_index == 12
    hand.key("Z", control=True)
    hand.key("Z", control=True)
    assert len(session.dots()) == 0
    assert annotator.layers.slice_index == 4
    hand.key("Y", control=True)
    near(session.dots().points, [[4, 30, 40]])


def test_a_click_on_a_dot_of_a_near_slice_selects_it(volumes, opened):
    hand = opened(volumes)
    session = session_of(hand)
    to_slice(hand, 4)
    hand.click([4, 30, 40])
    to_slice(hand, 5)
    hand.click([5, 31, 40])
    assert len(session.dots()) == 1
    assert workspace_of(hand.viewer).annotator.current == 0
    hand.click([5, 60, 60])
    assert len(session.dots()) == 2


def test_near_dots_are_smaller_and_paler_and_far_ones_hidden(volumes, opened):
    hand = opened(volumes)
    for z in (4, 5, 9):
        to_slice(hand, z)
        hand.click([z, 20 + 5 * z, 40])
    to_slice(hand, 4)
    layer = hand.viewer.layers["cells"]
    near(layer.data[layer.shown], [[4, 40, 40], [5, 45, 40]])
    assert layer.size[1] < layer.size[0]
    assert layer.face_color[1, 3] < layer.face_color[0, 3]
    shown = hand.screenshot("3d-slice")
    layer.visible = False
    hidden = hand.screenshot("3d-slice-hidden")
    layer.visible = True

    def changed(point):
        at = hand.screen(point).toPoint()
        box = (slice(at.y() - 6, at.y() + 7), slice(at.x() - 6, at.x() + 7))
        return np.abs(shown[box][..., :3].astype(int) - hidden[box][..., :3]).max()

    assert changed([4, 40, 40]) > 30  # on the slice
    assert changed([5, 45, 40]) > 30  # on a near one, drawn as well
    assert changed([9, 65, 40]) < 10


def test_checked_slices_and_volume_view(volumes, opened):
    hand = opened(volumes)
    widget = panel(hand, "annotate")
    to_slice(hand, 4)
    hand.click([4, 30, 40])
    widget.checked.setValue(5)
    assert session_of(hand).checked == 5
    assert "(checked)" in widget.counts.text()
    widget.in_3d.click()
    assert hand.viewer.dims.ndisplay == 3
    hand.screenshot("3d-volume")
    hand.click([4, 60, 60])
    assert len(session_of(hand).dots()) == 1  # no edits in the volume view
    widget.in_3d.click()
    assert hand.viewer.dims.ndisplay == 2


def test_the_older_way_to_draw_near_slices(monkeypatch):
    class Old:
        out_of_slice_display = False

    layer = Old()
    point_rows.draw_near_slices(layer)
    assert layer.out_of_slice_display


def test_a_removed_dot_is_gone_from_slices_and_from_the_volume_view(volumes, opened):
    hand = opened(volumes)
    widget = panel(hand, "annotate")
    to_slice(hand, 4)

    def both():
        slices = hand.screenshot("3d-removed-slice")[..., :3].astype(int)
        widget.in_3d.click()
        volume = hand.screenshot("3d-removed-volume")[..., :3].astype(int)
        widget.in_3d.click()
        return slices, volume

    before = both()
    hand.click([4, 30, 40])
    for without, with_dot in zip(before, both(), strict=True):
        assert np.abs(with_dot - without).max() > 60
    hand.click([4, 30, 40])
    for without, after in zip(before, both(), strict=True):
        np.testing.assert_allclose(after, without, atol=2)
