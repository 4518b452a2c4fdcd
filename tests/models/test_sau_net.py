"""SAU-Net and its feature noise: reference values, published sizes, identities."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cellcount_jax.models.sau_net import SAUNet, inject_noise


def _params(pairs, case):
    """Arrays `up2_transpose_norm_scale` and so on, as the module's tree of parameters."""
    params: dict = {}
    for name, value in pairs.items():
        prefix, _, name = name.partition("__")
        if prefix != case or not name.endswith(("kernel", "bias", "scale", "offset")):
            continue
        first, *middle, leaf = name.split("_")
        if first in ("attention", "head"):
            path = [first, *middle]
        else:
            path = [f"{first}_{middle[0]}", "norm" if "norm" in middle else "conv"]
        node = params
        for part in path:
            node = node.setdefault(part, {})
        value = value.reshape(value.shape[-2:]) if name == "head_kernel" else value
        node["bias" if leaf == "offset" else leaf] = value
    return {"params": params}


@pytest.mark.parametrize("case", ["net2d", "net3d"])
def test_network_agrees_with_the_reference(golden, case):
    pairs = golden("sau_net")
    model = SAUNet(ndim=int(case[3]), base_channels=pairs[f"{case}__base_width"].item())
    variables, x = _params(pairs, case), pairs[f"{case}__x"]
    shapes = jax.tree.map(lambda p: p.shape, variables)
    assert shapes == jax.tree.map(
        lambda p: p.shape, jax.eval_shape(model.init, jax.random.key(0), x)
    )

    @jax.jit
    def run(variables, x):
        names = ("down3_1", "attention")
        return model.apply(
            variables, x, capture_intermediates=lambda module, _: module.name in names
        )

    got, seen = run(variables, x)
    encoder = seen["intermediates"]["down3_1"]["__call__"][0]
    bottleneck = seen["intermediates"]["attention"]["__call__"][0]
    for value, name in (
        (got[..., None], "output"),
        (encoder, "encoder"),
        (bottleneck, "bottleneck"),
    ):
        expected = pairs[f"{case}__expected_{name}"]
        assert value.shape == expected.shape
        assert np.abs(value - expected).max() <= 5e-4 * np.abs(expected).max()


@pytest.mark.parametrize(("ndim", "channels", "count"), [(2, 3, 2_192_289), (3, 1, 5_866_657)])
def test_parameter_counts_as_published(ndim, channels, count):
    x = jax.ShapeDtypeStruct((1, *(8,) * ndim, channels), jnp.float32)
    shapes = jax.eval_shape(SAUNet(ndim=ndim).init, jax.random.key(0), x)
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == count


def _random(model, x):
    """Variables without compiling the initialisation; variances and scales are positive."""
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: (
            jnp.asarray(np.abs(rng.normal(size=leaf.shape)), leaf.dtype) * 0.2
            if leaf.ndim == 1
            else jnp.asarray(rng.normal(size=leaf.shape), leaf.dtype) * 0.2
        ),
        jax.eval_shape(model.init, jax.random.key(0), x),
    )


@pytest.fixture(scope="module")
def small():
    model = SAUNet(ndim=2, base_channels=2)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(3, 16, 8, 1)), jnp.float32)
    variables = _random(model, x)
    variables["params"]["head"]["bias"] = jnp.full(1, 5.0)  # the last ReLU stays open
    return model, variables, x


def test_noise_sees_the_features_of_every_level(small):
    model, variables, x = small
    shapes = []

    def look(features):
        shapes.extend(f.shape for f in features)
        return features

    np.testing.assert_allclose(
        model.apply(variables, x, noise=look), model.apply(variables, x), atol=1e-6
    )
    assert shapes == [(3, 16 >> i, 8 >> i, 2 << i) for i in range(4)]


def test_volumes_in_bfloat16_give_a_float32_map():
    model = SAUNet(ndim=3, base_channels=2, levels=2, dtype=jnp.bfloat16)
    x = jnp.zeros((1, 2, 4, 4, 1))
    out, _ = jax.eval_shape(model.init_with_output, jax.random.key(0), x)
    assert (out.shape, out.dtype) == ((1, 2, 4, 4), jnp.float32)


@pytest.mark.parametrize("ndim", [2, 3])
def test_batch_norm_keeps_padding_rows_out_of_its_statistics(ndim):
    model = SAUNet(ndim=ndim, base_channels=2, levels=2, norm="batch", dropout=0.0)
    x = np.random.default_rng(0).normal(size=(3, *(4,) * ndim, 1)).astype(np.float32)
    variables = _random(model, x)
    mask = np.array([1, 1, 0])

    @jax.jit
    def train(x):
        return model.apply(variables, x, train=True, mask=mask, mutable="batch_stats")

    out, state = train(x)
    other, same = train(np.concatenate([x[:2], x[2:] * 100]))
    np.testing.assert_allclose(out[:2], other[:2], atol=1e-5)
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-5), state, same)
    moved = jax.tree.map(
        lambda a, b: not np.array_equal(a, b), state, {"batch_stats": variables["batch_stats"]}
    )
    assert all(jax.tree.leaves(moved))


def test_noise_leaves_labelled_rows_and_the_clean_pass_alone(small):
    model, variables, x = small
    unlabelled = jnp.array([0, 1, 1])
    clean = model.apply(variables, x)
    outputs = [
        model.apply(variables, x, noise=functools.partial(inject_noise, key, rows=unlabelled))
        for key in jax.random.split(jax.random.key(1), 2)
    ]
    for noisy in outputs:
        np.testing.assert_allclose(noisy[0], clean[0], atol=1e-5)
        assert np.abs(noisy[1:] - clean[1:]).max() > 1e-2
    assert not np.allclose(outputs[0][1:], outputs[1][1:])
    none = functools.partial(inject_noise, jax.random.key(1), rows=jnp.zeros(3))
    np.testing.assert_allclose(model.apply(variables, x, noise=none), clean, atol=1e-6)


def test_noise_is_uniform_around_one_and_shared_by_the_batch():
    features = [jnp.full((2, 32, 32, 8), 5.0), jnp.full((2, 16, 16, 8), 5.0)]
    for disturbed in inject_noise(jax.random.key(0), features):
        factor = disturbed / 5
        assert factor.min() >= 0
        assert factor.max() <= 2
        assert np.array_equal(factor[0], factor[1])
        assert factor.mean() == pytest.approx(1, abs=0.05)
        assert factor.var() == pytest.approx(1 / 3, rel=0.1)


def test_noise_on_the_last_level_only():
    features = [jnp.ones((1, 4, 4, 2)), jnp.ones((1, 2, 2, 4))]
    first, last = inject_noise(jax.random.key(0), features, levels="last")
    assert np.array_equal(first, features[0])
    assert not np.array_equal(last, features[1])
    with pytest.raises(ValueError, match="'first'"):
        inject_noise(jax.random.key(0), features, levels="first")


@pytest.mark.parametrize("shape", [(1, 12, 8, 1), (1, 0, 8, 1), (1, 4, 8, 8, 1), (1, 8, 8)])
def test_sides_that_do_not_fit_are_a_clear_error(shape):
    model = SAUNet(ndim=len(shape) - 2 if len(shape) > 3 else 2)
    with pytest.raises(ValueError, match="multiples of 8 and at least 8, got"):
        jax.eval_shape(model.init, jax.random.key(0), jnp.zeros(shape))


@pytest.mark.parametrize("wrong", [{"ndim": 1}, {"ndim": 2, "norm": "group"}])
def test_unknown_kinds_are_an_error(wrong):
    with pytest.raises(ValueError, match="ndim 2 or 3"):
        jax.eval_shape(SAUNet(**wrong).init, jax.random.key(0), jnp.zeros((1, 8, 8, 1)))
