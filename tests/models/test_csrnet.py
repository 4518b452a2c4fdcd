"""CSRNet against reference pairs and the published number of parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cellcount_jax.models import layers
from cellcount_jax.models.csrnet import CSRNet
from cellcount_jax.models.vgg import VGG, torch_indices

FRONT = ("1_1", "1_2", "2_1", "2_2", "3_1", "3_2", "3_3", "4_1", "4_2", "4_3")


def assert_close(got, expected, tolerance):
    """max|got - expected| <= tolerance * max(1, max|expected|)."""
    got, expected = np.asarray(got), np.asarray(expected)
    assert got.shape == expected.shape
    bound = tolerance * max(1.0, np.abs(expected).max())
    worst = np.abs(got - expected).max()
    assert worst <= bound, f"off by {worst}, allowed {bound}"


def layer(pairs, name):
    return {"kernel": pairs[name.format("kernel")], "bias": pairs[name.format("bias")]}


def test_tiny_network_golden(golden):
    pairs = golden("csrnet")
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    image = ((pairs["tiny__image_uint8"] / 255 - mean) / std).astype(np.float32)
    assert_close(image, pairs["tiny__expected_normalised"], 1e-5)
    front = {f"conv{name}": layer(pairs, f"tiny__front_{{}}{i}") for i, name in enumerate(FRONT)}
    params = {
        "frontend": front,
        **{f"conv{i + 1}": layer(pairs, f"tiny__back_{{}}{i}") for i in range(6)},
        "head": layer(pairs, "tiny__output_{}"),
    }
    network = CSRNet(width=1 / 16)
    maps = jax.jit(network.apply)({"params": params}, image)
    assert_close(maps["features"], pairs["tiny__expected_features"], 1e-5)
    assert_close(maps["density"], pairs["tiny__expected_map"][..., 0], 1e-5)
    assert_close(maps["density"].sum((1, 2)), pairs["tiny__expected_count"], 1e-5)
    frontend = VGG(depth=16, width=1 / 16, n_convs=10)
    expected = pairs["tiny__expected_front"]
    assert_close(jax.jit(frontend.apply)({"params": front}, image), expected, 1e-5)
    indices = torch_indices(16, batch_norm=False, n_convs=10)
    assert list(indices.values()) == pairs["tiny__front_torch_index"].tolist()
    assert list(indices) == list(front)


def test_front_end_on_odd_sides_golden(golden):
    pairs = golden("csrnet")
    names = FRONT[:4]
    params = {f"conv{name}": layer(pairs, f"frontend__{{}}{i}") for i, name in enumerate(names)}
    frontend = VGG(depth=16, width=1 / 16, n_convs=4)
    features = jax.jit(frontend.apply)({"params": params}, pairs["frontend__x"])
    height, width = (side - side % 2 for side in features.shape[1:3])
    pooled = layers.max_pool(features[:, :height, :width])
    assert_close(pooled, pairs["frontend__expected"], 1e-5)


def test_parameters_and_output_shapes():
    image = jax.ShapeDtypeStruct((2, 256, 72, 3), jnp.float32)

    def sizes(**options):
        network = CSRNet(**options)
        maps, variables = jax.eval_shape(
            lambda x: network.init_with_output(jax.random.key(0), x, train=False), image
        )
        count = {
            name: sum(leaf.size for leaf in jax.tree.leaves(tree))
            for name, tree in variables.items()
        }
        return maps, count

    maps, count = sizes()
    assert count == {"params": 16_263_489}
    assert maps["density"].shape == (2, 32, 9)
    assert maps["features"].shape == (2, 32, 9, 64)
    maps, count = sizes(batch_norm=True, dtype=jnp.bfloat16)
    channels = 64 * 2 + 128 * 2 + 256 * 3 + 512 * 3 + 512 * 3 + 256 + 128 + 64
    assert count == {"params": 16_263_489 + 2 * channels, "batch_stats": 2 * channels}
    assert maps["density"].dtype == jnp.float32
    assert maps["features"].dtype == jnp.bfloat16


def test_initialisation():
    image = jnp.zeros((1, 16, 16, 3))
    gaussian, he = CSRNet(width=0.25), CSRNet(width=0.25, kernel_init="he")

    # What is not returned is not compiled.
    @jax.jit
    def kernels(key):
        first, second = (network.init(key, image)["params"] for network in (gaussian, he))
        last = second["head"]
        return first["frontend"]["conv4_3"]["kernel"], first["conv6"], second["conv6"], last

    front, first, second, head = kernels(jax.random.key(0))
    fan_in = 9 * 32
    np.testing.assert_allclose(front.std(), 0.01, rtol=0.05)
    np.testing.assert_allclose(first["kernel"].std(), 0.01, rtol=0.05)
    np.testing.assert_allclose(second["kernel"].std(), np.sqrt(2 / fan_in), rtol=0.05)
    np.testing.assert_array_equal(second["bias"], 0)
    np.testing.assert_allclose(head["kernel"].std(), 0.01, rtol=0.6)
    np.testing.assert_array_equal(head["bias"], 0)


def test_batch_norm_ignores_padding_rows():
    network = CSRNet(width=1 / 32, batch_norm=True, kernel_init="he")
    image = np.random.default_rng(1).normal(size=(3, 24, 24, 3)).astype(np.float32)
    shapes = jax.eval_shape(network.init, jax.random.key(0), image)
    random = np.random.default_rng(0)
    variables = jax.tree.map(lambda x: random.uniform(0, 0.3, x.shape).astype(x.dtype), shapes)

    @jax.jit
    def train(image, mask):
        return network.apply(variables, image, train=True, mask=mask, mutable=["batch_stats"])

    mask = jnp.array([1, 1, 0])
    maps, updates = train(image, mask)
    other, other_updates = train(np.concatenate([image[:2], 50 * image[2:]]), mask)
    np.testing.assert_allclose(maps["density"][:2], other["density"][:2], atol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), updates, other_updates)
    changed = jax.tree.map(
        lambda a, b: bool((a != b).any()), updates, {"batch_stats": variables["batch_stats"]}
    )
    assert all(jax.tree.leaves(changed))


def test_says_what_is_wrong_in_one_line():
    with pytest.raises(ValueError, match=r"images.*\(1, 8, 16, 16, 1\)"):
        CSRNet().init(jax.random.key(0), jnp.zeros((1, 8, 16, 16, 1)))
    with pytest.raises(ValueError, match="'orthogonal'"):
        CSRNet(kernel_init="orthogonal").init(jax.random.key(0), jnp.zeros((1, 16, 16, 3)))
