"""The bookkeeping of splits: shared groups, and the table."""

import numpy as np
import pytest

from benchmarks.accuracy import split_baselines
from cellcount_jax.data.sample import Sample


def samples(*groups: str) -> list[Sample]:
    return [Sample(g, np.zeros((4, 4, 1), np.uint8), None, group=g) for g in groups]


@pytest.mark.parametrize(
    ("train", "test", "shared"), [("aab", "abc", 2), ("a", "bb", 0), ("ab", "aab", 3)]
)
def test_test_images_count_when_their_group_is_in_training(train, test, shared):
    assert split_baselines.n_shared(samples(*train), samples(*test)) == shared


def test_the_table_has_every_seed_and_means():
    runs = [{"n_test": 20, "n_shared": n, "baseline_mean_mae": n + 1.0} for n in (16, 18)]
    line = split_baselines.table({"MBM": runs}).splitlines()[2]
    assert line == "| MBM | 16, 18 of 20 | 18.00 ± 1.41 | - | - | - |"
