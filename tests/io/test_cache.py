"""The cache keeps the arrays that were used last, up to its size."""

import numpy as np

from cellcount_jax.io.cache import ArrayCache


def test_the_least_recently_used_array_is_dropped() -> None:
    made: list[int] = []
    cache = ArrayCache(20)

    def get(key: int) -> int:
        def make() -> np.ndarray:
            made.append(key)
            return np.full(8, key, np.uint8)

        return int(cache.get(key, make)[0])

    assert [get(k) for k in (1, 2, 1, 3, 1, 2)] == [1, 2, 1, 3, 1, 2]
    assert made == [1, 2, 3, 2]


def test_the_last_array_is_kept_whatever_its_size() -> None:
    large = ArrayCache(1)
    assert large.get("a", lambda: np.ones(9)) is large.get("a", lambda: np.zeros(9))
