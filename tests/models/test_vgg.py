"""VGG: sizes, torchvision's indices, the reference network, batch norm and padding rows."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cellcount_jax.models.vgg import VGG, conv_channels, norm_name, torch_indices

PLAIN_16 = [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28]
PLAIN_19 = [0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34]
NORM_16 = [0, 3, 7, 10, 14, 17, 20, 24, 27, 30, 34, 37, 40]
NORM_19 = [0, 3, 7, 10, 14, 17, 20, 23, 27, 30, 33, 36, 40, 43, 46, 49]


def count_parameters(module, collection="params"):
    shapes = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes[collection]))


def random_variables(module, x):
    """As init gives them but for the values, drawn by NumPy: compiling init takes seconds."""
    rng = np.random.default_rng(1)
    shapes = jax.eval_shape(module.init, jax.random.key(0), x)
    return jax.tree.map(lambda a: rng.uniform(0.1, 0.4, a.shape).astype(np.float32), shapes)


def images(batch=2, height=32, width=32, seed=0):
    return np.random.default_rng(seed).normal(size=(batch, height, width, 3)).astype(np.float32)


@pytest.mark.parametrize(
    ("options", "parameters"),
    [
        ({"depth": 19}, 20_024_384),
        ({"depth": 16}, 14_714_688),
        ({"depth": 16, "n_convs": 10}, 7_635_264),
        ({"depth": 19, "batch_norm": True}, 20_024_384 + 2 * 5504),
        ({"depth": 16, "batch_norm": True}, 14_714_688 + 2 * 4224),
    ],
)
def test_parameter_count(options, parameters):
    assert count_parameters(VGG(**options)) == parameters


def test_running_statistics_of_every_norm():
    assert count_parameters(VGG(batch_norm=True), "batch_stats") == 2 * 5504


@pytest.mark.parametrize(
    ("depth", "batch_norm", "expected"),
    [(16, False, PLAIN_16), (19, False, PLAIN_19), (16, True, NORM_16), (19, True, NORM_19)],
)
def test_torch_indices(depth, batch_norm, expected):
    indices = torch_indices(depth, batch_norm)
    assert list(indices.values()) == expected
    assert list(indices) == list(conv_channels(depth))
    assert list(torch_indices(depth, batch_norm, 10).values()) == expected[:10]


def test_agrees_with_reference(golden):
    arrays = golden("vgg19_features")
    params = {
        name: {
            "kernel": arrays[f"features.{i}.weight"].transpose(2, 3, 1, 0),
            "bias": arrays[f"features.{i}.bias"],
        }
        for name, i in torch_indices(19, batch_norm=False).items()
    }
    names = [f"expected_stage{i}" for i in range(1, 5)] + ["expected_output"]
    for n_convs, name in zip((2, 4, 8, 12, None), names, strict=True):
        module = VGG(depth=19, width=1 / 16, n_convs=n_convs)
        found = jax.jit(module.apply)({"params": params}, arrays["input_image"])
        expected = arrays[name]
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("options", "shape"),
    [
        ({}, (1, 2, 3, 8)),
        ({"depth": 16, "n_convs": 10}, (1, 5, 6, 8)),
        ({"depth": 16, "n_convs": 3}, (1, 22, 25, 2)),
        ({"width": 1e-6}, (1, 2, 3, 1)),
        ({"dtype": jnp.bfloat16}, (1, 2, 3, 8)),
    ],
)
def test_output_of_odd_sides(options, shape):
    module = VGG(**{"width": 1 / 64, **options})
    x = jnp.zeros((1, 45, 51, 3))
    variables = jax.eval_shape(module.init, jax.random.key(0), x)
    out = jax.eval_shape(module.apply, variables, x)
    assert out.shape == shape
    assert out.dtype == options.get("dtype", jnp.float32)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}


def test_he_initialisation_keeps_the_scale():
    module = VGG(depth=16, n_convs=1)
    kernel = module.init(jax.random.key(0), images())["params"]["conv1_1"]["kernel"]
    assert np.std(np.asarray(kernel)) == pytest.approx(np.sqrt(2 / (9 * 64)), rel=0.05)


def test_batch_norm_uses_running_statistics_unless_training():
    module = VGG(depth=16, width=1 / 16, n_convs=3, batch_norm=True)
    x = images()
    variables = random_variables(module, x)
    apply = jax.jit(module.apply, static_argnames=("train", "mutable"))
    both = apply(variables, x)
    np.testing.assert_allclose(apply(variables, x[:1]), both[:1], atol=1e-5)
    trained, updates = apply(variables, x, train=True, mutable=("batch_stats",))
    assert np.abs(np.asarray(trained - both)).max() > 1e-3
    before, after = variables["batch_stats"], updates["batch_stats"]
    for name in conv_channels(16, n_convs=3):
        mean = np.asarray(after[norm_name(name)]["mean"])
        assert (mean != np.asarray(before[norm_name(name)]["mean"])).any()


def test_first_running_statistics_by_hand():
    module = VGG(depth=16, width=1 / 16, n_convs=1, batch_norm=True)
    x = images()
    variables = random_variables(module, x)
    apply = jax.jit(module.apply, static_argnames=("train", "mutable"))
    _, updates = apply(variables, x, train=True, mutable=("batch_stats",))
    plain = jax.lax.conv_general_dilated(
        x,
        variables["params"]["conv1_1"]["kernel"],
        (1, 1),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    got = updates["batch_stats"]["norm1_1"]
    plain += variables["params"]["conv1_1"]["bias"][None, None, None]
    start = variables["batch_stats"]["norm1_1"]
    mean = 0.9 * start["mean"] + 0.1 * plain.mean((0, 1, 2))
    np.testing.assert_allclose(got["mean"], mean, atol=1e-5)
    np.testing.assert_allclose(
        got["var"], 0.9 * start["var"] + 0.1 * plain.var((0, 1, 2)), rtol=1e-4
    )


def test_padding_rows_do_not_reach_the_statistics():
    module = VGG(depth=16, width=1 / 16, n_convs=3, batch_norm=True)
    x = images()
    variables = random_variables(module, x)

    @jax.jit
    def train(x, mask):
        return module.apply(variables, x, train=True, mask=mask, mutable=["batch_stats"])

    padded = np.concatenate([x, np.full_like(x, 50.0)])
    mask = np.array([1.0, 1.0, 0.0, 0.0], np.float32)
    expected = train(x, np.ones(2, np.float32))
    out, updates = train(padded, mask)
    np.testing.assert_allclose(out[:2], expected[0], atol=1e-4)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5, rtol=1e-4), updates, expected[1]
    )
    unmasked = train(padded, np.ones(4, np.float32))[1]["batch_stats"]["norm1_1"]["var"]
    assert np.abs(unmasked - updates["batch_stats"]["norm1_1"]["var"]).max() > 0.1


@pytest.mark.parametrize(
    ("options", "shape", "message"),
    [
        ({"depth": 17}, (1, 32, 32, 3), r"depth 17 is not one of \[16, 19\]"),
        ({"n_convs": 17}, (1, 32, 32, 3), "16 convolutions, n_convs is 17"),
        ({"n_convs": 0}, (1, 32, 32, 3), "n_convs is 0"),
        ({}, (1, 8, 32, 32, 3), r"got \(1, 8, 32, 32, 3\)"),
    ],
)
def test_wrong_input_is_told(options, shape, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(VGG(**options).init, jax.random.key(0), jnp.zeros(shape))
