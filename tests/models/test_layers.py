"""Upsampling, pooling, transposed convolution and norms, against references and identities."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cellcount_jax.models import layers


@pytest.mark.parametrize("case", ["even", "odd", "single_row", "single_pixel", "factor8"])
@pytest.mark.parametrize("align_corners", [False, True])
def test_upsampling_agrees_with_the_reference(golden, case, align_corners):
    pairs = golden("bilinear_upsample")
    rule = "align_corners" if align_corners else "half_pixel"
    expected = pairs[f"{case}__expected_{rule}"]
    got = layers.upsample_bilinear(
        pairs[f"{case}__x"], pairs[f"{case}__factor"].item(), align_corners=align_corners
    )
    assert np.abs(got - expected).max() <= 1e-5 * max(1, np.abs(expected).max())


@pytest.mark.parametrize("align_corners", [False, True])
def test_upsampling_works_under_jit_in_bfloat16_and_on_volumes(align_corners):
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 5, 2)).astype(np.float32)
    upsample = jax.jit(layers.upsample_bilinear, static_argnums=1, static_argnames="align_corners")
    exact = layers.upsample_bilinear(x, 3, align_corners=align_corners)
    assert exact.shape == (2, 9, 12, 15, 2)
    np.testing.assert_allclose(upsample(x, 3, align_corners=align_corners), exact, atol=1e-6)
    short = upsample(jnp.asarray(x, jnp.bfloat16), 3, align_corners=align_corners)
    assert short.dtype == jnp.bfloat16
    np.testing.assert_allclose(short.astype(jnp.float32), exact, atol=0.1)


@pytest.mark.parametrize("align_corners", [False, True])
def test_gradient_of_upsampling_is_its_transpose(align_corners):
    def upsample(x):
        return layers.upsample_bilinear(x, 2, align_corners=align_corners)

    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(1, 3, 1, 2)), rng.normal(size=(1, 6, 2, 2))
    out, pullback = jax.vjp(upsample, jnp.asarray(x, jnp.float32))
    (back,) = pullback(jnp.asarray(y, jnp.float32))
    assert np.vdot(out, y) == pytest.approx(np.vdot(x, back), rel=1e-5)


def test_half_pixel_upsampling_keeps_the_sum_of_a_constant_and_of_inner_pixels():
    x = np.zeros((1, 5, 5, 1), np.float32)
    x[0, 2, 2] = 3
    assert layers.upsample_bilinear(x, 4).sum() / 16 == pytest.approx(3, rel=1e-6)
    assert np.all(layers.upsample_bilinear(np.ones_like(x), 4) == 1)


@pytest.mark.parametrize(
    ("shape", "factor", "message"),
    [((4, 4), 2, "space"), ((1, 0, 4, 1), 2, "empty"), ((1, 4, 4, 1), 0, "factor")],
)
def test_upsampling_refuses_what_it_cannot_do(shape, factor, message):
    with pytest.raises(ValueError, match=message):
        layers.upsample_bilinear(jnp.zeros(shape), factor)


@pytest.mark.parametrize("shape", [(2, 4, 6, 3), (1, 2, 4, 2, 5)])
def test_max_pool_is_that_of_flax(shape):
    x = jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)
    window = (2,) * (len(shape) - 2)
    assert np.array_equal(layers.max_pool(x), nn.max_pool(x, window, strides=window))


@pytest.mark.parametrize("shape", [(2, 4, 6, 3), (1, 2, 4, 6, 2)])
def test_gradient_of_max_pool_is_that_of_flax(shape):
    x, weights = jax.random.normal(jax.random.key(0), (2, *shape))
    small = weights[(slice(None), *[slice(None, None, 2)] * (len(shape) - 2))]
    window = (2,) * (len(shape) - 2)
    mine = jax.grad(lambda x: (small * layers.max_pool(x)).sum())(x)
    theirs = jax.grad(lambda x: (small * nn.max_pool(x, window, strides=window)).sum())(x)
    np.testing.assert_array_equal(mine, theirs)


def test_no_gradient_of_max_pool_is_lost_or_doubled_where_values_are_equal():
    gradient = jax.grad(lambda x: layers.max_pool(x).sum())(jnp.zeros((1, 4, 4, 4, 3)))
    assert gradient.sum() == 8 * 3


def test_max_pool_passes_nan_on():
    for place in range(2):
        x = jnp.zeros((1, 2, 2, 1)).at[0, place, 0, 0].set(jnp.nan)
        assert jnp.isnan(layers.max_pool(x)).all()


def test_max_pool_refuses_odd_sides():
    with pytest.raises(ValueError, match=r"\(1, 3, 4, 1\)"):
        layers.max_pool(jnp.zeros((1, 3, 4, 1)))


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (1, 2, 3, 1, 4)])
def test_up_conv_is_the_transposed_convolution(shape):
    ndim = len(shape) - 2
    x = jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)
    ours = layers.UpConv2x(3)
    params = ours.init(jax.random.key(0), x)["params"]
    flipped = {"kernel": jnp.flip(params["kernel"], range(ndim)), "bias": jnp.arange(3.0)}
    taps = (2,) * ndim
    expected = nn.ConvTranspose(3, taps, strides=taps).apply({"params": flipped}, x)
    got = ours.apply({"params": params | {"bias": jnp.arange(3.0)}}, x)
    np.testing.assert_allclose(got, expected, atol=1e-5)


@pytest.mark.parametrize("shape", [(2, 6, 8, 5), (2, 3, 4, 5, 3)])
def test_instance_norm_is_that_of_flax_with_its_gradients(shape):
    rng = np.random.default_rng(0)
    x, weights = (jnp.asarray(rng.normal(3, 1, shape), jnp.float32) for _ in range(2))
    params = {"scale": jnp.asarray(rng.normal(size=shape[-1])), "bias": jnp.ones(shape[-1])}

    def weighted(module, params, x):
        return (module.apply({"params": params}, x) * weights).sum()

    theirs = nn.InstanceNorm(epsilon=1e-6, use_fast_variance=False)
    found, expected = (
        jax.jit(jax.value_and_grad(lambda p, x, m=m: weighted(m, p, x), argnums=(0, 1)))(params, x)
        for m in (layers.InstanceNorm(), theirs)
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5), found, expected
    )
    shapes = jax.tree.map(jnp.shape, layers.InstanceNorm().init(jax.random.key(0), x))
    assert shapes == jax.tree.map(jnp.shape, theirs.init(jax.random.key(0), x))


def test_instance_norm_keeps_the_digits_of_a_small_variance():
    x = 1000 + jnp.asarray(np.random.default_rng(0).normal(size=(1, 32, 32, 2)), jnp.float32)
    exact = np.asarray(x, np.float64)
    exact = (exact - exact.mean((1, 2))) / exact.std((1, 2))
    found = layers.InstanceNorm()
    np.testing.assert_allclose(found.apply(found.init(jax.random.key(0), x), x), exact, atol=1e-3)
    half = layers.InstanceNorm(dtype=jnp.bfloat16)
    assert half.apply(half.init(jax.random.key(0), x), x).dtype == jnp.bfloat16


def test_an_unknown_norm_is_an_error():
    with pytest.raises(ValueError, match="'layer' is not one of"):
        layers.norm(jnp.zeros((1, 2, 2, 1)), "layer", train=False)
