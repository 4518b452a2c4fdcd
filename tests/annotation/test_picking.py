import numpy as np

from cellcount_jax.annotation.picking import Picked, by_doubt, far_from, next_doubtful, pick
from cellcount_jax.annotation.records import State, make_rows


def everything(rows):
    return np.ones(len(rows), bool)


def test_pick_takes_the_nearest_within_the_radius():
    rng = np.random.default_rng(0)
    rows = make_rows(rng.uniform(0, 100, (500, 2)))
    for point in rng.uniform(0, 100, (50, 2)):
        distances = np.linalg.norm(rows.points - point, axis=1)
        found = pick(rows, everything(rows), point, radius=3.0)
        nearest = int(distances.argmin())
        assert found == (Picked(nearest, False) if distances[nearest] <= 3 else None)


def test_hidden_dots_are_not_picked():
    rows = make_rows([[5.0, 5.0], [7.0, 5.0]])
    assert pick(rows, np.array([False, True]), [5.0, 5.0], radius=1.0) is None
    assert pick(rows, np.array([False, True]), [5.0, 5.0], radius=2.0) == Picked(1, False)


def test_a_dot_on_the_slice_comes_before_one_on_a_near_slice():
    rows = make_rows([[4.0, 10.0, 10.0], [5.0, 13.0, 10.0]])
    spacing = (2.0, 1.0, 1.0)
    shown = everything(rows)
    here = pick(rows, shown, [5.0, 10.0, 10.0], radius=3.0, near_radius=4.0, spacing=spacing)
    assert here == Picked(1, False)
    near = pick(rows, shown, [5.0, 9.0, 10.0], radius=3.0, near_radius=4.0, spacing=spacing)
    assert near == Picked(0, True)


def test_distance_between_slices_is_physical():
    rows = make_rows([[4.0, 10.0, 10.0]])
    shown, at = everything(rows), [5.0, 10.0, 10.0]
    assert pick(rows, shown, at, radius=3.0, spacing=(2.9, 1.0, 1.0)) == Picked(0, True)
    assert pick(rows, shown, at, radius=3.0, spacing=(3.1, 1.0, 1.0)) is None


def test_far_from_agrees_with_all_distances():
    rng = np.random.default_rng(1)
    points, others = rng.uniform(0, 20, (100, 2)), rng.uniform(0, 20, (30, 2))
    distances = np.linalg.norm(points[:, None] - others[None], axis=-1).min(axis=1)
    np.testing.assert_array_equal(far_from(points, others, radius=1.5), distances > 1.5)


def test_doubtful_dots_come_nearest_the_threshold_first_and_judged_ones_stay():
    rows = make_rows(np.zeros((5, 2)), scores=[0.9, 0.52, 0.1, np.nan, 0.45], states=State.PROPOSED)
    assert by_doubt(rows, 0.5).tolist() == [1, 4, 0, 2]
    assert next_doubtful(rows, 0.5, None, step=1) == 1
    rows = rows.replace(states=np.where(np.arange(5) == 1, State.REJECTED, State.PROPOSED))
    assert next_doubtful(rows, 0.5, 1, step=1) == 4
    assert next_doubtful(rows, 0.5, 4, step=-1) == 1  # back to the rejected one
    assert next_doubtful(rows, 0.5, 1, step=-1) is None
    assert next_doubtful(rows, 0.5, 2, step=1) == 4  # from the end to what is left


def test_nothing_is_left_when_all_are_judged():
    rows = make_rows(np.zeros((2, 2)), scores=[0.9, 0.5], states=State.ACCEPTED)
    assert next_doubtful(rows, 0.5, None, step=1) is None
