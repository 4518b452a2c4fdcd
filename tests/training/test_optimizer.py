"""Schedules against reference pairs and float64; optimizers against NumPy loops."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cellcount_jax import defaults
from cellcount_jax.training import optimizer


def float64_restarts(step, base, first, multiplier, floor):
    start, length = 0.0, float(first)
    while step >= start + length:
        start, length = start + length, length * multiplier
    return floor + (base - floor) * (1 + np.cos(np.pi * (step - start) / length)) / 2


@pytest.mark.parametrize("case", ["", "alt__", "epochs__"])
def test_warm_restarts_reference(golden, case):
    arrays = golden("learning_rate")
    settings = {
        "base": float(arrays[f"{case}base"]),
        "first_cycle": int(arrays[f"{case}first_cycle"]),
        "multiplier": int(arrays[f"{case}multiplier"]),
        "floor": float(arrays[f"{case}floor"]),
    }
    schedule = jax.jit(lambda step: optimizer.warm_restarts(step, **settings))
    steps, expected = arrays[f"{case}steps"], arrays[f"{case}expected_lr"]
    atol = 1e-6 * settings["base"]
    np.testing.assert_allclose(schedule(steps), expected, atol=atol, rtol=0)
    for step, value in zip(steps[:5].tolist(), expected[:5], strict=True):
        assert float(optimizer.warm_restarts(step, **settings)) == pytest.approx(value, abs=atol)


def test_warm_restarts_known_values():
    rate = lambda s: float(  # noqa: E731
        optimizer.warm_restarts(s, base=1e-3, first_cycle=50, multiplier=2, floor=0.0)
    )
    for step in (0, 50, 150, 350, 750, 1550, 3150, 6350, 12750):
        assert rate(step) == np.float32(1e-3), step
        assert step == 0 or rate(step - 1) < 1e-6
    assert rate(25) == pytest.approx(5e-4, rel=1e-6)
    assert rate(100) == pytest.approx(5e-4, rel=1e-6)


@pytest.mark.parametrize(
    ("first", "multiplier"), [(50, 2), (7, 3), (1, 2), (10, 1), (13, 1.5), (12.5, 1), (3.3, 1.1)]
)
def test_warm_restarts_far_out(first, multiplier):
    rng = np.random.default_rng(0)
    steps = np.unique(np.concatenate([np.arange(200), rng.integers(0, 10**6, 300)]))
    starts = np.cumsum([first * multiplier**k for k in range(12)])
    steps = np.unique(np.concatenate([steps, np.ceil(starts), np.ceil(starts) - 1])).astype(int)
    found = jax.jit(
        lambda s: optimizer.warm_restarts(
            s, base=1.0, first_cycle=first, multiplier=multiplier, floor=0.1
        )
    )(steps)
    expected = [float64_restarts(int(s), 1.0, first, multiplier, 0.1) for s in steps]
    np.testing.assert_allclose(found, expected, atol=5e-7, rtol=0)


def test_warm_restarts_rejects():
    for first, multiplier in ((0, 2), (-5, 2), (10, 0.5)):
        with pytest.raises(ValueError, match="first_cycle"):
            optimizer.warm_restarts(0, base=1.0, first_cycle=first, multiplier=multiplier)


def at(schedule, steps):
    return jax.jit(jax.vmap(schedule))(steps)


def test_schedules_with_warm_up():
    constant = optimizer.make_schedule("constant", base=0.5, warmup_steps=4)
    np.testing.assert_allclose(at(constant, jnp.arange(7)), [0.1, 0.2, 0.3, 0.4, 0.5, 0.5, 0.5])
    cosine = optimizer.make_schedule("cosine", base=1.0, floor=0.2, steps=24, warmup_steps=4)
    found = at(cosine, jnp.arange(30))
    rest = 0.2 + 0.8 * (1 + np.cos(np.pi * np.arange(20) / 20)) / 2
    np.testing.assert_allclose(found[:4], [0.2, 0.4, 0.6, 0.8], rtol=1e-6)
    np.testing.assert_allclose(found[4:24], rest, rtol=1e-6)
    np.testing.assert_allclose(found[24:], 0.2, rtol=1e-6)
    restarts = optimizer.make_schedule("warm_restarts", base=1.0, first_cycle=10, warmup_steps=3)
    expected = optimizer.warm_restarts(jnp.arange(20), base=1.0, first_cycle=10)
    np.testing.assert_allclose(at(restarts, jnp.arange(3, 23)), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "settings", "says"),
    [
        ("linear", {}, "no schedule 'linear'"),
        ("cosine", {}, "needs more steps"),
        ("cosine", {"steps": 5, "warmup_steps": 5}, "needs more steps"),
        ("warm_restarts", {}, "first_cycle 0 must be positive"),
    ],
)
def test_schedules_that_lack_something(name, settings, says):
    with pytest.raises(ValueError, match=says):
        optimizer.make_schedule(name, base=1.0, **settings)


def run(tx, gradients, start):
    """Parameters after each gradient."""

    @jax.jit
    def step(state, value, gradient):
        updates, state = tx.update(gradient, state, value)
        return state, optax.apply_updates(value, updates)

    value, state = jnp.asarray(start), tx.init(jnp.asarray(start))
    for gradient in gradients:
        state, value = step(state, value, gradient)
    return np.asarray(value)


def numpy_adam(gradients, start, rates, *, decay=0.0, penalty=0.0):
    """Adam; `decay` times the rate comes off each parameter before its step."""
    value = np.array(start, np.float64)
    m = v = np.zeros_like(value)
    for t, (gradient, rate) in enumerate(zip(gradients, rates, strict=True), start=1):
        gradient = gradient + penalty * value
        m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
        value = value * (1 - decay * rate)
        value = value - rate * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
    return value


START = np.array([0.5, -1.2, 2.0], np.float32)
GRADIENTS = np.random.default_rng(0).normal(size=(160, 3)).astype(np.float32)
RATES = [float64_restarts(s, 1e-3, 50, 2, 0.0) for s in range(160)]


def restarts():
    return optimizer.make_schedule("warm_restarts", base=1e-3, first_cycle=50)


def test_adamw_decays_by_the_learning_rate_itself():
    found = run(optimizer.make_optimizer("adamw", restarts(), weight_decay=1.0), GRADIENTS, START)
    expected = numpy_adam(GRADIENTS, START, RATES, decay=1.0)
    np.testing.assert_allclose(found, expected, atol=2e-6)
    without = numpy_adam(GRADIENTS, START, RATES)
    assert abs(without - expected).max() > 0.1


def test_adam_and_its_penalty():
    found = run(optimizer.make_optimizer("adam", restarts()), GRADIENTS, START)
    np.testing.assert_allclose(found, numpy_adam(GRADIENTS, START, RATES), atol=2e-6)
    found = run(optimizer.make_optimizer("adam", restarts(), weight_decay=0.3), GRADIENTS, START)
    expected = numpy_adam(GRADIENTS, START, RATES, penalty=0.3)
    np.testing.assert_allclose(found, expected, atol=2e-6)


def test_gradients_are_clipped_to_their_norm():
    tx = optimizer.make_optimizer("adam", restarts(), clip=1.0)
    clipped = [g / max(1.0, np.linalg.norm(g)) for g in GRADIENTS]
    expected = numpy_adam(clipped, START, RATES)
    np.testing.assert_allclose(run(tx, GRADIENTS, START), expected, atol=2e-6)
    assert np.abs(expected - numpy_adam(GRADIENTS, START, RATES)).max() > 1e-4


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_parameters_below_a_name_have_a_rate_of_their_own(name):
    parameters = {"a": {"u": jnp.ones(2), "v": jnp.ones(2)}, "u": jnp.ones(2)}
    gradients = jax.tree.map(lambda x: 0.3 * x, parameters)
    plain = optimizer.make_optimizer(name, 1e-2)
    faster = optimizer.make_optimizer(name, 1e-2, rates={"u": 3.0, "absent": 9.0})
    usual, found = (t.update(gradients, t.init(parameters), parameters)[0] for t in (plain, faster))
    np.testing.assert_allclose(found["a"]["u"], 3 * usual["a"]["u"], rtol=1e-6)
    np.testing.assert_allclose(found["u"], 3 * usual["u"], rtol=1e-6)
    np.testing.assert_array_equal(found["a"]["v"], usual["a"]["v"])


def test_no_such_optimizer():
    with pytest.raises(ValueError, match="no optimizer 'lion'"):
        optimizer.make_optimizer("lion", 0.1)  # type: ignore


def test_from_config():
    fields = {"name": "adamw", "learning_rate": 1e-3, "floor": 0.0, "weight_decay": 1.0}
    plan = defaults.stage(steps=160, optimizer=fields).optimizer
    tx = optimizer.from_config(plan, steps=160, steps_per_epoch=5)
    expected = numpy_adam(GRADIENTS, START, RATES, decay=1.0)
    np.testing.assert_allclose(run(tx, GRADIENTS, START), expected, atol=2e-6)
    plan.first_cycle = 20
    in_steps = optimizer.from_config(plan, steps=160, steps_per_epoch=5)
    rates = [float64_restarts(s, 1e-3, 20, 2, 0.0) for s in range(160)]
    expected = numpy_adam(GRADIENTS, START, rates, decay=1.0)
    np.testing.assert_allclose(run(in_steps, GRADIENTS, START), expected, atol=2e-6)
