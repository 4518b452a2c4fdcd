"""The step and what a plan may ask of it: microbatches, less memory, several steps at once."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from etils import epath

from cellcount_jax import defaults
from cellcount_jax.methods import build_stages
from cellcount_jax.runtime import run_files, sharding
from cellcount_jax.training import run as experiment
from cellcount_jax.training import trainer
from cellcount_jax.training.step import REMAT, create_state, make_step
from configs import common, countxplain_vgg, csrnet_vgg, dcl_vgg, density_vgg
from tests.methods.step_input import step_input
from tests.runtime import device_runs

pytestmark = pytest.mark.usefixtures("quick_compilation")

SIDE = 32


def batch(n: int = 8, mask=None) -> dict:
    """A labelled batch of made-up images."""
    rng = np.random.default_rng(0)
    target = np.zeros((n, SIDE, SIDE), np.float32)
    target[:, 8:16, 16:24] = 1 / 64
    rows = {
        "image": rng.normal(size=(n, SIDE, SIDE, 3)).astype(np.float32),
        "target": target,
        "count": rng.integers(1, 9, n).astype(np.float32),
        "mask": np.ones(n, np.float32) if mask is None else np.asarray(mask, np.float32),
        "index": np.arange(n, dtype=np.int32),
    }
    return {"labelled": {name: jnp.asarray(value) for name, value in rows.items()}}


@functools.cache
def counter():
    """Stage and variables of a tiny DCL counter, which has no batch norm."""
    (stage,) = build_stages(device_runs.config("counter"))
    return stage, stage.init(jax.random.key(0), batch(), {})


TX = optax.sgd(1e-2)


@functools.cache
def counter_step(**options):
    """The jitted step of the counter with plain gradient descent on the rows that it is given."""
    mesh = sharding.mesh_of(jax.devices()[:1])
    return make_step(counter()[0], TX, lambda data, _: data, mesh, seed=0, **options)


def after_steps(rows: dict, n: int = 2, **options) -> tuple[list[np.ndarray], list[dict]]:
    """Trained weights and metrics after some steps."""
    state = create_state(jax.tree.map(jnp.copy, counter()[1]), TX)
    found = []
    for _ in range(n):
        state, metrics = counter_step(**options)(state, {}, rows)
        found.append({name: float(value) for name, value in metrics.items()})
    return jax.tree.leaves(state.trained), found


def assert_same(a: tuple, b: tuple, rtol: float) -> None:
    for name in a[1][0]:
        np.testing.assert_allclose([m[name] for m in a[1]], [m[name] for m in b[1]], rtol=rtol)
    for x, y in zip(a[0], b[0], strict=True):
        np.testing.assert_allclose(x, y, rtol=rtol, atol=rtol * max(1e-3, float(np.abs(x).max())))


@pytest.mark.parametrize("mask", [None, [1, 1, 1, 0, 1, 0, 0, 0]])
def test_microbatches_give_the_step_of_the_whole_batch(mask):
    rows = batch(mask=mask)
    assert_same(after_steps(rows), after_steps(rows, grad_accumulation=4), rtol=1e-5)


def test_microbatches_that_do_not_divide_the_batch_are_refused():
    with pytest.raises(ValueError, match=r"stages\.counter\.grad_accumulation is 3.* 8 labelled"):
        after_steps(batch(), grad_accumulation=3)


@pytest.mark.parametrize("remat", [name for name in REMAT if name != "none"])
def test_recomputing_changes_no_gradient(remat):
    rows = batch()
    assert_same(after_steps(rows, n=1), after_steps(rows, n=1, remat=remat), rtol=1e-5)


def test_an_unknown_remat_is_refused():
    with pytest.raises(ValueError, match="remat is 'all'; it is one of none"):
        after_steps(batch(), remat="all")


def test_moving_average_of_the_weights_predicts():
    variables, decay = counter()[1], 0.15
    state = create_state(jax.tree.map(jnp.copy, variables), TX, ema_decay=decay)
    expected = jax.tree.map(np.array, variables.trained)
    for i in range(4):
        state, _ = counter_step(ema_decay=decay)(state, {}, batch())
        # A shorter average at first: 1/10, 2/11, ... of the old values, at most `decay`.
        kept = min(decay, (1 + i) / (10 + i))
        last = jax.tree.map(np.array, state.trained)
        expected = jax.tree.map(lambda a, b, k=kept: k * a + (1 - k) * b, expected, last)
    predicting = state.variables({}).trained
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), predicting, expected)
    moved = jax.tree.map(lambda a, b: float(np.abs(a - b).max()), predicting, last)
    assert max(jax.tree.leaves(moved)) > 1e-6


def kept_bytes(stage, variables, remat: str) -> int:
    """Bytes that the forward pass hands to the backward pass."""
    loss = stage.loss
    if REMAT[remat] is not None:
        loss = jax.checkpoint(loss, policy=REMAT[remat])

    def backward(trained):
        def value(trained):
            return loss(trained, step_input(variables, batch()))

        return jax.vjp(value, trained, has_aux=True)[1]

    kept = jax.eval_shape(backward, variables.trained)
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(kept))


def test_what_is_recomputed_is_not_kept():
    (stage,) = build_stages(density_vgg.get_config("tiny"))
    variables = stage.init(jax.random.key(0), batch(), {})
    kept = {name: kept_bytes(stage, variables, name) for name in REMAT}
    assert kept["pools"] < 0.5 * kept["convolutions"]
    assert kept["convolutions"] < 0.7 * kept["none"]


def run(workdir, **plan) -> epath.Path:
    """A whole run of the default counter, tiny: epochs of 2 steps, 9 steps, checked every 2."""
    workdir = epath.Path(workdir)
    settings = device_runs.config("density", steps=9, eval_every=2, **plan)
    experiment.train_source(settings, workdir, device_runs.source())
    return workdir


@pytest.fixture(scope="module")
def one_by_one(tmp_path_factory):
    return run(tmp_path_factory.mktemp("one_by_one"))


def test_several_steps_per_call_leave_the_same_lines(one_by_one, tmp_path):
    several = run(tmp_path, steps_per_call=3)
    ours, theirs = run_files.read_metrics(several), run_files.read_metrics(one_by_one)
    assert [m["step"] for m in ours] == [4, 4, 8, 8, 9, 9]
    for a, b in zip(ours, theirs, strict=True):
        assert a.keys() == b.keys()
        for name, value in b.items():
            assert a[name] == (
                pytest.approx(value, rel=1e-5) if isinstance(value, float) else value
            )


def test_several_steps_in_one_call_are_those_steps():
    single = device_runs.losses("density", 1, 6)
    np.testing.assert_allclose(device_runs.losses("density", 1, 6, steps=3), single, rtol=1e-6)


@pytest.mark.parametrize(
    ("interval", "at", "stop"),
    [(8, 0, 8), (8, 7, 8), (8, 8, 16), (8, 16, 18), (4, 0, 4), (4, 4, 8)],
)
def test_calls_end_where_validation_or_the_stage_interrupts(interval, at, stop):
    assert trainer.next_stop(at, steps=18, interval=interval) == stop


CONFIGS = {
    "dcl": dcl_vgg.get_config,
    "density": density_vgg.get_config,
    "csrnet": csrnet_vgg.get_config,
    "countxplain": countxplain_vgg.get_config,
    "consistency": lambda preset: common.consistency_preset(
        defaults.consistency(), preset, quick=lambda config: None
    ),
}


def losses_and_counts(method: str, dtype: str) -> list[tuple]:
    """Of each stage: variables, loss with metrics, counts, and the types that computed them."""
    config = CONFIGS[method]("tiny")
    config.dtype = dtype
    found, previous = [], {}
    for stage in build_stages(config):
        given = batch(2)
        if method == "consistency":
            given = {"labelled": given["labelled"], "unlabelled": batch(2)["labelled"]}
        variables = stage.init(jax.random.key(0), given, previous)
        previous[stage.name] = variables
        maps = jax.jit(stage.predict)(variables, given["labelled"]["image"])
        counted = stage.readout.count in ("l1", "integral")
        counts = jnp.abs(maps[stage.readout.count_map]).sum((1, 2)) if counted else None
        if stage.prepare is not None:
            rows = given["labelled"]
            whole = rows | {"dots": rows["target"], "size": np.full((2, 2), SIDE)}
            rows |= stage.prepare({"labelled": whole}, variables.frozen)["labelled"]
        arguments = (variables.trained, step_input(variables, given, key=1, step=9))
        program = str(jax.make_jaxpr(stage.loss)(*arguments))
        found.append((variables, jax.jit(stage.loss)(*arguments), counts, program))
    return found


@pytest.mark.parametrize(
    "method",  # CSRNet is a part of CountXplain
    [pytest.param(m, marks=pytest.mark.slow) if m == "csrnet" else m for m in CONFIGS],
)
def test_bfloat16_computes_and_float32_keeps(method):
    exact, short = (losses_and_counts(method, dtype) for dtype in ("float32", "bfloat16"))
    for (variables, full, counts, before), (kept, half, near, program) in zip(
        exact, short, strict=True
    ):
        assert "bf16[" in program
        assert "bf16[" not in before
        assert {x.dtype for x in jax.tree.leaves((kept.trained, kept.model_state))} <= {
            jnp.dtype("float32")
        }
        loss, (_, metrics) = half
        assert loss.dtype == jnp.float32
        assert {x.dtype for x in metrics.values()} == {jnp.dtype("float32")}
        np.testing.assert_allclose(loss, full[0], rtol=0.03)
        if counts is not None:
            assert near.dtype == jnp.float32
            np.testing.assert_allclose(near, counts, rtol=0.05, atol=0.05)
        assert jax.tree.structure(variables) == jax.tree.structure(kept)
