"""The label curve: division, paired interval, table; and where the focal weight lies."""

import argparse
import json

import numpy as np
import pytest

from benchmarks.accuracy import focal_share, label_curve
from cellcount_jax.data.sample import Sample


def images(n, prefix):
    return [
        Sample(f"{prefix}{i}", np.zeros((8, 8, 1), np.uint8), np.zeros((1, 2), np.float32))
        for i in range(n)
    ]


def names(samples):
    return [s.name for s in samples]


def test_a_run_with_few_labels_sees_no_others_and_the_curve_is_nested():
    train, test = images(20, "a"), images(5, "b")
    divide = lambda n, seed: label_curve.divided(  # noqa: E731
        "vgg", train, test, n=n, seed=seed, held_back=False
    )
    one, two, other = divide(1, 0), divide(2, 0), divide(2, 1)
    assert names(one.splits["train"]) == names(two.splits["train"])[:1]
    assert names(two.splits["train"]) != names(other.splits["train"])
    for found in (one, two, other):
        assert names(found.splits["test"]) == names(test)
        used = names(found.splits["train"]) + names(found.splits["unlabelled"])
        assert sorted(used) == sorted(names(train))
    assert one.split_hash != two.split_hash


def test_held_back_images_replace_the_test_part_and_train_nothing():
    train, test = images(20, "a"), images(5, "b")
    found = [
        label_curve.divided("vgg", train, test, n=1, seed=s, held_back=True).splits for s in (0, 1)
    ]
    assert names(found[0]["test"]) == names(found[1]["test"])
    for splits in found:
        assert len(splits["test"]) == 10
        seen = set(names(splits["train"]) + names(splits["unlabelled"]))
        assert not seen & set(names(splits["test"]))
        assert not set(names(test)) & (seen | set(names(splits["test"])))


def test_interval_of_paired_differences_is_student_s():
    """Mean 3, deviation 1, 3 pairs: 4.3027 / sqrt(3)."""
    mean, half = label_curve.paired_difference([2.0, 3.0, 4.0])
    assert mean == 3.0
    np.testing.assert_allclose(half, 4.302653 / 3**0.5, rtol=1e-5)
    assert label_curve.paired_difference([1.0]) == (1.0, None)


def result(variant, seed, f1, **fields):
    return {
        "set": "vgg", "labels": 1, "seed": seed, "variant": variant, "f1": f1, "n_points_mae": 9.0,
        "focal_share_within_radius": 0.7, "fields": [], "split_hash": "abc",
    } | fields  # fmt: skip


def test_table_compares_complete_pairs_only():
    results = [
        result("supervised", 0, 0.5), result("unlabelled", 0, 0.6),
        result("supervised", 1, 0.7), result("unlabelled", 1, 0.7),
        result("supervised", 2, 0.1),
    ]  # fmt: skip
    *_, row = label_curve.table(results).splitlines()
    half = 12.7062 * np.std([0.1, 0.0], ddof=1) / 2**0.5
    assert row.startswith("| vgg | 1 | 2 | 0.600 | 0.650 | +0.050 |")
    assert f"{0.05 - half:+.3f} to {0.05 + half:+.3f}" in row


def test_a_run_is_recorded_once(tmp_path, monkeypatch):
    written = []
    monkeypatch.setattr(label_curve, "RESULTS", tmp_path)

    def record(name, figures, **_):
        written.append(figures)
        path = tmp_path / f"{name}.jsonl"
        lines = path.read_text() if path.exists() else ""
        path.write_text(lines + json.dumps({"figures": figures}) + "\n")

    monkeypatch.setattr(label_curve, "record", record)
    for seed in (0, 0, 1):
        label_curve.record_once(result("supervised", seed, 0.5))
    assert [w["seed"] for w in written] == [0, 1]


def test_share_of_weight_near_dots():
    weight = np.zeros((30, 30), np.float32)
    weight[10, 10], weight[10, 15], weight[10, 16] = 1.0, 2.0, 4.0
    dots = np.array([[10.0, 10.0]])
    assert focal_share.weight_near_dots(weight, dots, radius=5.0) == 3.0
    assert focal_share.weight_near_dots(weight, np.zeros((0, 2)), radius=5.0) == 0.0
    volume = np.ones((3, 3, 3), np.float32)
    assert focal_share.weight_near_dots(volume, np.array([[1.0, 1.0, 1.0]]), radius=1.0) == 7.0


@pytest.mark.slow
def test_a_pair_of_runs_from_start_to_end(tmp_path, monkeypatch):
    random = np.random.default_rng(0)

    def made(n):
        return [
            Sample(str(i), random.integers(0, 255, (64, 64, 1), dtype=np.uint8),
                   random.uniform(8, 56, (6, 2)).astype(np.float32))
            for i in range(n)
        ]  # fmt: skip

    monkeypatch.setattr(label_curve, "pool", lambda *_: (made(6), made(3)))
    fields = [
        "stages.consistency.steps=2", "stages.consistency.eval_every=2",
        "stages.consistency.optimizer.warmup_steps=0", "stages.consistency.crop=(32,32)",
        "model.window=(64,64)", "model.base_channels=2",
    ]  # fmt: skip
    options = argparse.Namespace(runs=tmp_path, set=fields, held_back=False)
    found = [label_curve.run("vgg", 1, 0, v, options) for v in label_curve.VARIANTS]
    assert found[0]["split_hash"] == found[1]["split_hash"]
    assert all(0 <= f["focal_share_within_radius"] <= 1 for f in found)
    assert label_curve.table(found).count("\n") == 2
