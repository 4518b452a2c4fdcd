import logging

import numpy as np
import pytest

from cellcount_jax.annotation import agreement, folder, propose, queue, tally
from cellcount_jax.annotation.session import Session
from cellcount_jax.inference.image_argument import ArrayReader
from cellcount_jax.io.annotations.dots import FORMAT_NAMES, Dots, read_dots, write_dots
from cellcount_jax.io.pairing import find_pairs
from cellcount_jax.io.regions import Region
from cellcount_jax.runtime.lock import LockedError
from cellcount_jax.simulation.simulate import simulate_cells, write_simulated


@pytest.fixture
def images(tmp_path):
    write_simulated(tmp_path, 3, seed=1, shape=(64, 64), count=8)
    for path in (tmp_path / "dots").iterdir():
        path.unlink()
    return tmp_path


def test_saved_dots_are_what_training_reads_and_the_record_says_who(images):
    project = folder.open_project(images)
    first = project.images[0]
    with folder.open_image(project, first) as (_, session):
        session.add([10, 12])
        session.add([20, 22])
        session.reject_at([30, 30])
        target = folder.save(project, first, session)
    pairs = find_pairs(images)[1]
    assert pairs == {first: target}
    np.testing.assert_array_equal(read_dots(target).points, [[10, 12], [20, 22]])
    np.testing.assert_array_equal(
        read_dots(images / "not_cells" / "sim_000000.csv").points, [[30, 30]]
    )
    (row,) = folder.annotated(project)
    assert (row["n_dots"], row["n_not_cells"], row["image"]) == ("2", "1", "sim_000000.png")
    assert row["who"]
    assert float(row["seconds"]) >= 0
    assert folder.progress(project) == (1, 3, 2)


def test_dots_of_other_programs_are_taken_over_and_never_lost(images, caplog):
    first = sorted((images / "images").iterdir())[0]
    old = images / "dots" / f"{first.stem}.roi"
    write_dots(old, np.array([[5.0, 6.0]]))
    content = old.read_bytes()
    project = folder.open_project(images)
    with folder.open_image(project, first) as (_, session):
        session.add([10, 12])
        folder.save(project, first, session)
    assert (images / "annotation" / "originals" / old.name).read_bytes() == content
    assert list(find_pairs(images)[1].values()) == [images / "dots" / f"{first.stem}.csv"]
    assert len(read_dots(images / "dots" / f"{first.stem}.csv")) == 2
    # Another program changes the saved file: said, and kept.
    saved = images / "dots" / f"{first.stem}.csv"
    saved.write_text("y,x\n1,1\n")
    project = folder.open_project(images)
    with caplog.at_level(logging.WARNING), folder.open_image(project, first) as (_, session):
        assert len(session.dots()) == 2
        folder.save(project, first, session)
    assert "changed since it was saved here" in caplog.text
    assert (images / "annotation" / "originals" / saved.name).read_text() == "y,x\n1,1\n"


@pytest.mark.parametrize("name", FORMAT_NAMES)
def test_every_format_is_written(images, tmp_path, name):
    project = folder.open_project(images)
    first = project.images[0]
    extensions = {"roi": ".roi", "roi_zip": ".zip", "cell_counter": ".xml", "geojson": ".geojson"}
    extensions |= {"labelme": ".json", "coco": ".json", "dots_image": ".png", "label_mask": ".png"}
    with folder.open_image(project, first) as (_, session):
        session.add([10, 12])
        session.add([20, 22])
        path = tmp_path / f"out{extensions.get(name, '.csv')}"
        folder.save(project, first, session, path=path, format=name)
    got = read_dots(path, format=name, image_shape=(64, 64)).points
    np.testing.assert_allclose(got[np.argsort(got[:, 0])], [[10, 12], [20, 22]])


def test_classes_and_scores_survive(images):
    project = folder.open_project(images)
    first = project.images[0]
    with folder.open_image(project, first) as (_, session):
        session.name_classes(["neuron", "glia"])
        session.propose([[5, 5], [40, 40]], [0.75, 0.25])
        session.set_class([1], 1)
        target = folder.save(project, first, session)
    dots = read_dots(target)
    assert (list(dots.labels), dots.scores.tolist()) == (["neuron", "glia"], [0.75, 0.25])


def test_an_image_is_edited_by_one_program_at_a_time(images):
    project = folder.open_project(images)
    with (
        folder.open_image(project, project.images[0]),
        pytest.raises(LockedError, match="in use"),
        folder.open_image(project, project.images[0]),
    ):
        pass


def test_a_second_observer_sees_none_of_the_first_and_agreement_is_measured(images):
    first, second = folder.open_project(images), folder.open_project(images, observer="ann")
    marked = {"first": [[[10, 10], [20, 20]], [[30, 30]]], "second": [[[11, 10]], [[30, 31]]]}
    for project, dots in ((first, marked["first"]), (second, marked["second"])):
        for image, points in zip(project.images, dots, strict=False):
            with folder.open_image(project, image) as (_, session):
                assert len(session.dots()) == 0
                for point in points:
                    session.add(point)
                folder.save(project, image, session)
    reopened = [folder.open_project(images, observer=o) for o in (None, "ann")]
    pairs = agreement.pairs_of(*reopened)
    found = agreement.compare(pairs, radius=3.0)
    assert (found["first"], found["second"], found["bias"]) == (3, 2, 0.5)
    assert (found["matched"], found["only_first"], found["only_second"]) == (2, 1, 0)
    assert found["f1"] == pytest.approx(2 * 2 / (2 * 2 + 1))
    spread = 1.96 * np.std([1, 0], ddof=1)
    assert found["limits_of_agreement"] == pytest.approx([0.5 - spread, 0.5 + spread])
    text = agreement.page(found, ("first", "ann"))
    assert "0.800" in text
    assert "sim_000001.png" in text
    assert find_pairs(images)[1].keys() == set(first.images[:2])  # her dots are no one's pair


def test_observers_need_a_name_of_a_folder(images):
    with pytest.raises(ValueError, match="observer"):
        folder.open_project(images, observer="../x")


def test_tallies(tmp_path):
    session = Session(tmp_path / "v.journal", (4, 20, 20))
    for z, y, x in [(0, 1, 1), (2, 5, 5), (2, 15, 15)]:
        session.add([z, y, x], class_index=int(y > 10))
    assert tally.per_class(session) == {"cell": 2, "class 2": 1}
    assert tally.per_slice(session).tolist() == [1, 0, 2, 0]
    region = Region("left", (0, 0), np.ones((20, 10), bool))
    assert tally.per_region(session, [region]) == {"left": 2, "outside": 1}
    session.undo()
    assert tally.per_slice(session).tolist() == [1, 0, 1, 0]


def test_blocks_give_the_proposals_of_the_whole_image(monkeypatch):
    image, _ = simulate_cells(3, (256, 256), 40)
    whole = propose.classical(ArrayReader(image, 2), method="log", diameter=12.0)
    monkeypatch.setattr(propose, "fits_in_memory", lambda image: False)
    monkeypatch.setattr(propose, "BLOCK", {2: (100, 90)})
    monkeypatch.setattr(propose, "OVERLAP", 256)  # so that each block has the whole's threshold
    parts = propose.classical(ArrayReader(image, 2), method="log", diameter=12.0)
    order = [np.lexsort(p.points.T) for p in (whole, parts)]
    np.testing.assert_array_equal(whole.points[order[0]], parts.points[order[1]])


def test_contrast_is_high_on_cells():
    image, dots = simulate_cells(3, (128, 128), 12)
    far = np.array([[y, x] for y in range(8, 128, 12) for x in range(8, 128, 12)], float)
    away = np.linalg.norm(far[:, None] - dots[None], axis=-1).min(axis=1) > 14
    on = propose.contrast(image, dots, diameter=12.0)
    off = propose.contrast(image, far[away], diameter=12.0)
    assert np.median(on) > 1 > np.median(off)


def test_rank_puts_the_most_doubtful_first_and_done_ones_last(tmp_path):
    parts = {"count": 1.0, "n_points": 1, "mirrored": 0.0, "near_threshold": 0.0}
    doubts = [
        queue.Doubt(image=n, readouts=r, **parts)
        for n, r in zip("abc", (0.1, 0.5, 0.9), strict=True)
    ]
    ranked = queue.rank(doubts, done=["c"])
    assert [d.image for d in ranked] == ["b", "a", "c"]
    queue.write_queue(tmp_path / "queue.csv", ranked)
    assert queue.read_queue(tmp_path / "queue.csv") == ["b", "a", "c"]
    names = [b"\xe4".decode("utf-8", "surrogateescape"), "x\ry", "x\ny", "=1"]
    odd = [queue.Doubt(name, 1.0, 1, 0.0, 0.0, 0.0) for name in names]
    queue.write_queue(tmp_path / "odd.csv", odd)
    assert queue.read_queue(tmp_path / "odd.csv") == names


def test_unlikeness():
    reference = np.array([[10.0, 100.0], [20.0, 120.0]])
    assert queue.unlikeness(np.array([15.0, 110.0]), reference) == 0
    assert queue.unlikeness(np.array([15.0, 126.0]), reference) == pytest.approx(0.3)
    assert queue.unlikeness(np.array([90.0, 110.0]), reference) == 1


def test_scores_and_labels_of_a_machine_become_proposals(images):
    first = sorted((images / "images").iterdir())[0]
    write_dots(images / "dots" / f"{first.stem}.csv", Dots([[5, 5], [9, 9]], np.array([0.9, 0.4])))
    project = folder.open_project(images)
    with folder.open_image(project, first) as (_, session):
        assert tally.per_state(session)["proposed"] == 2
        session.set_threshold(0.5)
        assert len(session.dots()) == 1
