"""Bilinear sampling and message passing against reference pairs, slow loops and identities."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from cellcount_jax.models import message_passing
from cellcount_jax.models.message_passing import (
    GlobalMessagePassing,
    bilinear_mean,
    bilinear_sample,
    spread,
)

jitted_mean = jax.jit(bilinear_mean, static_argnames=("formulation",))

IDENTITIES = ("shift", "zero", "constant", "grid")
WITH_GRADIENTS = ("m1", "m1_wide", "m9")
VALUES = [(case, "gather") for case in IDENTITIES + WITH_GRADIENTS]
VALUES += [(case, "matmul") for case in ("m9", "constant", "grid")]
GRADIENTS = [(case, kind) for case in WITH_GRADIENTS for kind in ("gather", "matmul")]
GRADIENTS += [("m9", "gather, large grid")]


def close(got, expected, tolerance):
    got, expected = np.asarray(got), np.asarray(expected)
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance * np.abs(expected).max())


def read(golden, case):
    arrays = golden("message_passing")
    part = {k.split("__")[1]: v for k, v in arrays.items() if k.startswith(f"{case}__")}
    params = {
        name: {"kernel": part[f"{name}_kernel"], "bias": part[f"{name}_bias"]} for name in "uv"
    }
    return part, params


def positions_of(part):
    return np.stack([part["expected_position_y"], part["expected_position_x"]], axis=-1)


def random_problem(seed=0, shape=(2, 5, 7, 3), samples=4, reach=6.0):
    rng = np.random.default_rng(seed)
    positions = rng.uniform(-reach, reach + 6.0, (*shape[:3], samples, 2)).astype(np.float32)
    return rng.normal(size=shape).astype(np.float32), positions


def random_params(channels, samples=9):
    """Drawn by NumPy: compiling the initialisation takes seconds."""
    rng = np.random.default_rng(12)
    return {
        name: {"kernel": rng.normal(size=(channels, samples)), "bias": rng.normal(size=samples)}
        for name in "uv"
    }


def apply(module, params, features):
    return jax.jit(module.apply)({"params": params}, features)


def sample_slowly(features, positions, padding):
    """One sample at a time, straight from the definition."""
    _, height, width, channels = features.shape
    out = np.zeros((*positions.shape[:-1], channels))
    for at in np.ndindex(*positions.shape[:-1]):
        y, x = positions[at].astype(np.float64)
        if padding == "border":
            y, x = np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)
        for row in range(height):
            for column in range(width):
                weight = max(0, 1 - abs(y - row)) * max(0, 1 - abs(x - column))
                out[at] += weight * features[at[0], row, column]
    return out


def message_of(params, features, formulation):
    """What message passing adds to the features, and the offsets (v, u) of its samples."""
    module = GlobalMessagePassing(n_samples=params["u"]["bias"].size, formulation=formulation)
    output, seen = module.apply({"params": params}, features, capture_intermediates=True)
    offsets = [seen["intermediates"][name]["__call__"][0] for name in "vu"]
    return output - features, jnp.stack(offsets, axis=-1)


def sampled_message(params, features, padding):
    """The same with either padding, as the mean of `bilinear_sample` at positions made here."""
    grid = jnp.stack(jnp.indices(features.shape[1:3], np.float32), axis=-1)[None, :, :, None]
    offsets = [
        jnp.matmul(features, params[name]["kernel"], precision="highest")
        + params[name]["bias"][None, None, None]
        for name in "vu"
    ]
    positions = grid + jnp.stack(offsets, axis=-1)
    return bilinear_sample(features, positions, padding=padding).mean(axis=3)


@pytest.mark.parametrize(("case", "formulation"), VALUES)
def test_message_passing_agrees_with_reference(golden, case, formulation):
    part, params = read(golden, case)
    run = jax.jit(message_of, static_argnums=2)
    message, offsets = run(params, part["features"], formulation)
    close(message, part["expected_aggregate_border"], 1e-5)
    np.testing.assert_allclose(offsets[..., 0], part["expected_offset_y"], atol=1e-5)
    np.testing.assert_allclose(offsets[..., 1], part["expected_offset_x"], atol=1e-5)


@pytest.mark.parametrize("padding", ["border", "zeros"])
@pytest.mark.parametrize("case", IDENTITIES + WITH_GRADIENTS)
def test_samples_agree_with_reference(golden, case, padding):
    part, _ = read(golden, case)
    run = jax.jit(bilinear_sample, static_argnames="padding")
    samples = run(part["features"], positions_of(part), padding=padding)
    close(samples.mean(axis=3), part[f"expected_aggregate_{padding}"], 1e-5)


def check_gradients(part, params, padding, message):
    def total(params, features):
        return (message(params, features) * part["cotangent"]).sum()

    run = jax.jit(jax.grad(total, argnums=(0, 1)))
    grad_params, grad_features = run(params, part["features"])
    close(grad_features, part[f"expected_grad_{padding}_features"], 1e-5)
    for name in "uv":
        for kind in ("kernel", "bias"):
            expected = part[f"expected_grad_{padding}_{name}_{kind}"]
            close(grad_params[name][kind], expected, 1e-5)


@pytest.mark.parametrize(("case", "formulation"), GRADIENTS)
def test_gradients_of_message_passing_agree_with_reference(golden, monkeypatch, case, formulation):
    part, params = read(golden, case)
    if "large" in formulation:
        monkeypatch.setattr(message_passing, "_MATMUL_BACKWARD_POSITIONS", 0)
    kind = formulation.split(",")[0]
    check_gradients(part, params, "border", lambda p, x: message_of(p, x, kind)[0])


@pytest.mark.parametrize("padding", ["border", "zeros"])
@pytest.mark.parametrize(("case", "large"), [(c, False) for c in WITH_GRADIENTS] + [("m9", True)])
def test_gradients_of_samples_agree_with_reference(golden, monkeypatch, case, large, padding):
    part, params = read(golden, case)
    if large:
        monkeypatch.setattr(message_passing, "_MATMUL_BACKWARD_POSITIONS", 0)
    check_gradients(part, params, padding, lambda p, x: sampled_message(p, x, padding))


@pytest.mark.parametrize("padding", ["border", "zeros"])
def test_samples_agree_with_slow_loop(padding):
    features, positions = random_problem()
    got = jax.jit(bilinear_sample, static_argnames="padding")(features, positions, padding=padding)
    close(got, sample_slowly(features, positions, padding), 1e-6)


def test_formulations_agree_with_each_other():
    features, positions = random_problem(1)
    positions[:, ::2] = np.round(positions[:, ::2])  # integers are the kinks
    cotangent = np.random.default_rng(2).normal(size=features.shape).astype(np.float32)

    def total(features, positions, formulation):
        mean = bilinear_mean(features, positions, formulation=formulation)
        return (mean * cotangent).sum()

    def plain(features, positions):
        samples = bilinear_sample(features, positions)
        return (samples.mean(axis=3) * cotangent).sum()

    expected = jax.jit(jax.value_and_grad(plain, argnums=(0, 1)))(features, positions)
    run = jax.jit(jax.value_and_grad(total, argnums=(0, 1)), static_argnums=2)
    for formulation in ("gather", "matmul", "auto"):
        got = run(features, positions, formulation)
        jax.tree.map(lambda a, b: close(a, b, 1e-5), got, expected)


@pytest.mark.parametrize("kind", ["sample, zeros", "gather", "matmul"])
def test_gradients_agree_with_finite_differences(kind):
    features, positions = random_problem(3, shape=(1, 4, 5, 2), samples=3, reach=2.0)
    # Away from the kinks at integers, so that differences are exact.
    positions = np.floor(positions) + 0.3 + 0.4 * (positions - np.floor(positions))

    @jax.jit
    def total(p):
        if "zeros" in kind:
            return (bilinear_sample(features, p, padding="zeros").mean(axis=3) ** 2).sum()
        return (bilinear_mean(features, p, formulation=kind) ** 2).sum()

    check_grads(total, (positions,), order=1, modes=("rev",), rtol=0.02)


def test_no_gradient_reaches_a_clamped_coordinate():
    features, _ = random_problem(4, shape=(1, 4, 5, 2))
    positions = np.full((1, 4, 5, 1, 2), 1.5, np.float32)
    positions[0, 0, 0, 0] = (-2.0, 1.5)
    positions[0, 0, 1, 0] = (1.5, 4.7)
    positions[0, 0, 2, 0] = (0.0, 1.5)  # on the limit, as `jnp.clip` would not treat it
    positions[0, 0, 3, 0] = (1.5, 4.0)
    for formulation in ("gather", "matmul"):
        total = functools.partial(bilinear_mean, features, formulation=formulation)
        gradient = jax.jit(jax.grad(lambda p, total=total: total(p).sum()))
        g = np.asarray(gradient(positions))
        assert g[0, 0, 0, 0, 0] == 0
        assert g[0, 0, 0, 0, 1] != 0
        assert g[0, 0, 1, 0, 1] == 0
        assert g[0, 0, 1, 0, 0] != 0
        assert g[0, 0, 2, 0, 0] == g[0, 0, 3, 0, 1] == 0


def test_auto_is_settled_when_compiled_for_a_platform():
    features, positions = random_problem(11)
    run = jax.jit(bilinear_mean)
    text = {
        platform: jax.export.export(run, platforms=[platform])(features, positions).mlir_module()
        for platform in ("cpu", "tpu")
    }
    assert "stablehlo.gather" in text["cpu"]
    assert "stablehlo.gather" not in text["tpu"]
    assert "stablehlo.dot_general" in text["tpu"]


def test_far_positions_stay_finite():
    features, positions = random_problem(5)
    positions = positions * np.float32(1e30)
    for formulation in ("gather", "matmul"):
        assert np.isfinite(jitted_mean(features, positions, formulation=formulation)).all()
    assert np.isfinite(bilinear_sample(features, positions)).all()
    assert (np.asarray(bilinear_sample(features, positions, padding="zeros")) == 0).all()


@pytest.mark.parametrize("samples", [1, 4])
def test_zero_offsets_sample_themselves(samples):
    features, _ = random_problem(6)
    zeros = {name: {"kernel": np.zeros((3, samples)), "bias": np.zeros(samples)} for name in "uv"}
    out = apply(GlobalMessagePassing(n_samples=samples), zeros, features)
    np.testing.assert_allclose(out, 2 * features, atol=1e-6)


def test_shift_rolls_columns_inside_the_image():
    features, _ = random_problem(7)
    params = {name: {"kernel": np.zeros((3, 1)), "bias": np.zeros(1)} for name in "uv"}
    params["u"]["bias"] = np.ones(1)
    out = apply(GlobalMessagePassing(n_samples=1), params, features) - features
    np.testing.assert_allclose(out[:, :, :-1], np.roll(features, -1, axis=2)[:, :, :-1], atol=1e-6)


@pytest.mark.parametrize("samples", [1, 9])
def test_initial_offsets_learn(samples):
    features, _ = random_problem(9, shape=(2, 8, 8, 4))
    module = GlobalMessagePassing(n_samples=samples)
    params = jax.jit(module.init)(jax.random.key(0), features)["params"]
    shapes = jax.tree.map(lambda a: a.shape, params)
    assert shapes == {name: {"kernel": (4, samples), "bias": (samples,)} for name in "uv"}
    total = jax.jit(jax.grad(lambda p: (module.apply({"params": p}, features) ** 2).sum()))
    gradient = total(params)
    for leaf in jax.tree.leaves(gradient):
        assert (np.abs(leaf) > 0).all()
    if samples > 1:
        assert np.ptp(np.asarray(gradient["u"]["bias"])) > 0  # the heads do not move as one


def test_initial_biases_spread_over_a_quarter_of_the_side():
    module = GlobalMessagePassing()
    params = jax.jit(module.init)(jax.random.key(0), jnp.zeros((1, 12, 16, 2)))["params"]
    np.testing.assert_allclose(params["u"]["bias"], [-4, 0, 4] * 3)
    np.testing.assert_allclose(params["v"]["bias"], [-3] * 3 + [0] * 3 + [3] * 3)


@pytest.mark.parametrize("samples", range(1, 18))
def test_spread_is_centred_and_distinct(samples):
    points = spread(samples, (32, 48))
    assert points.shape == (samples, 2)
    np.testing.assert_allclose(points.mean(axis=0), 0, atol=1e-5)
    assert len(np.unique(points, axis=0)) == samples
    assert (np.abs(points) < (16, 24)).all()


def test_bfloat16_features_keep_float32_positions():
    features, _ = random_problem(10, shape=(2, 8, 9, 4))
    params = random_params(4)
    expected = apply(GlobalMessagePassing(), params, features)
    for formulation in ("gather", "matmul"):
        module = GlobalMessagePassing(formulation=formulation)
        run = jax.jit(functools.partial(module.apply, capture_intermediates=True))
        out, seen = run({"params": params}, features.astype(jnp.bfloat16))
        assert out.dtype == jnp.bfloat16
        assert {x.dtype for name in "uv" for x in seen["intermediates"][name]["__call__"]} == {
            jnp.dtype("float32")
        }
        np.testing.assert_allclose(out.astype(jnp.float32), expected, atol=0.1)


@pytest.mark.parametrize(
    ("shape", "positions", "options", "message"),
    [
        ((1, 4, 4, 4, 2), (1, 4, 4, 1, 2), {}, "not a volume"),
        ((1, 4, 4, 2), (1, 4, 5, 1, 2), {}, r"\(1, 4, 4, 2\) and positions \(1, 4, 5, 1, 2\)"),
        ((1, 4, 4, 2), (1, 4, 4, 1, 2), {"formulation": "fast"}, "formulation 'fast'"),
    ],
)
def test_wrong_input_is_told(shape, positions, options, message):
    with pytest.raises(ValueError, match=message):
        bilinear_mean(jnp.zeros(shape), jnp.zeros(positions), **options)


def test_an_unknown_padding_is_an_error():
    with pytest.raises(ValueError, match="padding 'wrap'"):
        bilinear_sample(jnp.zeros((1, 4, 4, 2)), jnp.zeros((1, 4, 4, 1, 2)), padding="wrap")


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((1, 4, 4, 4, 2), {}, "images .*, not on a volume"),
        ((4, 4, 2), {}, r"not \(4, 4, 2\)"),
        ((1, 4, 4, 2), {"n_samples": 0}, "n_samples is 0"),
    ],
)
def test_module_tells_wrong_input(shape, options, message):
    with pytest.raises(ValueError, match=message):
        GlobalMessagePassing(**options).init(jax.random.key(0), jnp.zeros(shape))
