"""Streamed batches are those of `batches.sample_batch`, from any step, for any number of hosts."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cellcount_jax.data import batches, streaming, targets
from cellcount_jax.data.preprocess import Preprocessing
from cellcount_jax.data.sample import Sample

SEED = 3
RANGED = Preprocessing(channels=1, normalise="percentile", mean=(0.2,), std=(0.5,))
DENSITY = functools.partial(targets.gaussian_density, sigma=1.5)
DISTANCE = targets.inverse_distance_map


def sample(i: int, shape: tuple[int, ...], n: int = 12) -> Sample:
    rng = np.random.default_rng(i)
    image = rng.integers(0, 60 + 10 * i, (*shape, 1), dtype=np.uint8)
    dots = rng.uniform(-0.5, np.array(shape) - 0.5, (n, len(shape))).astype(np.float32)
    return Sample(f"s{i}", image, dots)


@pytest.fixture(scope="module")
def flat() -> list[Sample]:
    """Images of several sizes, some smaller than the crop, one of them empty."""
    shapes = [(40, 33), (17, 50), (64, 64), (9, 12), (48, 40)]
    return [sample(i, s, n=0 if i == 4 else 12) for i, s in enumerate(shapes)]


def resident(samples, steps, *, size, crop, target, multiple=1):
    """Batches of `sample_batch`, without its flips."""
    data = batches.stack_samples(samples, RANGED, target=target, crop=crop, multiple=multiple)
    data = {"labelled": jax.tree.map(jnp.asarray, data)}
    take = jax.jit(
        functools.partial(batches.sample_batch, sizes={"labelled": size}, crop=crop, flips=False)
    )
    return [jax.device_get(take(data, s, jax.random.key(SEED))["labelled"]) for s in steps]


def read(samples, steps: range, **options):
    options = {"seed": SEED, "batch_size": 4, "threads": 2, **options}
    batches_ = streaming.open_stream(samples, RANGED, start_step=steps.start, **options)
    found = list(itertools.islice(batches_, len(steps)))
    batches_.close()
    return found


def assert_same(a, b, **tolerance):
    assert set(a) == set(b)
    for name in a:
        assert a[name].dtype == b[name].dtype, name
        np.testing.assert_allclose(a[name], b[name], err_msg=name, **tolerance)


@pytest.mark.parametrize("target", [DENSITY, DISTANCE, None])
@pytest.mark.parametrize("crop", [(16, 24), None])
def test_streamed_batches_are_the_resident_ones(flat, target, crop):
    wanted = resident(flat, range(6), size=4, crop=crop, target=target, multiple=8)
    found = read(flat, range(6), target=target, crop=crop, multiple=8)
    for a, b in zip(found, wanted, strict=True):
        assert_same(a, b, rtol=0, atol=1e-6)


def test_volumes(flat):
    volumes = [sample(i, s) for i, s in enumerate([(5, 20, 18), (9, 16, 30)])]
    target = functools.partial(targets.gaussian_density, sigma=(0.8, 2.0, 2.0))
    wanted = resident(volumes, range(3), size=3, crop=(6, 8, 8), target=target)
    found = read(volumes, range(3), batch_size=3, crop=(6, 8, 8), target=target)
    for a, b in zip(found, wanted, strict=True):
        assert_same(a, b, rtol=0, atol=1e-6)


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_a_stream_opened_at_a_step_continues_unchanged(flat, threads):
    unbroken = read(flat, range(9), crop=(16, 16), target=DENSITY)
    resumed = read(flat, range(5, 9), crop=(16, 16), target=DENSITY, threads=threads)
    for a, b in zip(resumed, unbroken[5:], strict=True):
        assert_same(a, b, rtol=0, atol=0)


def test_a_saved_state_restores_the_stream(flat):
    opened = functools.partial(
        streaming.open_stream, flat, RANGED, seed=SEED, batch_size=2, crop=(8, 8), threads=1
    )
    first = opened()
    for _ in range(3):
        next(first)
    second = opened()
    second.set_state(first.get_state())
    assert_same(next(first), next(second), rtol=0, atol=0)
    first.close()
    second.close()


@pytest.mark.parametrize("n_hosts", [2, 4])
def test_hosts_read_the_rows_of_one_batch(flat, n_hosts):
    whole = read(flat, range(4), crop=(16, 16), target=DENSITY)
    hosts = [
        read(
            flat,
            range(4),
            crop=(16, 16),
            target=DENSITY,
            rows=range(i * 4 // n_hosts, (i + 1) * 4 // n_hosts),
        )
        for i in range(n_hosts)
    ]
    for step, wanted in enumerate(whole):
        parts = [host[step] for host in hosts]
        joined = {name: np.concatenate([p[name] for p in parts]) for name in wanted}
        assert_same(joined, wanted, rtol=0, atol=0)


def test_every_epoch_holds_each_image_once(flat):
    index = np.concatenate([b["index"] for b in read(flat, range(15), crop=(8, 8))])
    epochs = index.reshape(-1, len(flat))
    np.testing.assert_array_equal(np.sort(epochs, axis=1), np.tile(np.arange(5), (12, 1)))
    assert len({tuple(e) for e in epochs}) > 1


def test_other_streams_and_seeds_differ(flat):
    def order(**options):
        return [tuple(b["index"]) for b in read(flat, range(5), crop=(8, 8), **options)]

    assert order() != order(number=1)
    assert order() != order(seed=SEED + 1)


def test_prefetching_is_bounded():
    class Counted(list):
        reads = 0

        def __getitem__(self, index):
            self.reads += 1
            return super().__getitem__(index)

    samples = Counted([sample(0, (8, 8)), sample(1, (8, 8))])
    found = streaming.open_stream(
        samples, RANGED, batch_size=2, seed=0, crop=(4, 4), threads=1, start_step=100
    )
    next(found)
    found.close()
    assert samples.reads <= 2 * (2 + streaming.PREFETCH_PER_THREAD)


def test_errors_name_the_image(flat):
    with pytest.raises(ValueError, match="empty"):
        streaming.open_stream([], RANGED, batch_size=2, seed=0)
    broken = Sample("broken", np.full((8, 8, 1), np.nan, np.float32), None)
    with pytest.raises(ValueError, match=r"broken: .*not finite"):
        read([broken], range(1), crop=(4, 4))


def test_fits_device_estimates_what_is_stacked(flat):
    data = batches.stack_samples(flat, RANGED, target=DENSITY, crop=(16, 60))
    stacked = sum(data[f].nbytes for f in ("image", "target", "dots"))
    fits = functools.partial(streaming.fits_device, channels=1, crop=(16, 60))
    assert fits([flat], stacked)
    assert not fits([flat], stacked - 1)
    assert fits([flat, flat], 2 * stacked)
    assert not fits([flat, flat], 2 * stacked - 1)
