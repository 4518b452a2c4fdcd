"""The forms of the 2-D convolution agree, gradients included, and the layer is that of flax."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from cellcount_jax.models.conv import conv2d as module
from cellcount_jax.models.conv import winograd
from cellcount_jax.models.conv.conv2d import Conv2D, conv2d

SHAPES = [(2, 8, 12, 3, 5), (1, 7, 5, 4, 2), (1, 1, 2, 3, 3), (1, 5, 9, 1, 16), (2, 16, 16, 70, 64)]


def made(*shape, dtype=jnp.float32):
    """x [B, H, W, C] and kernel [3, 3, C, F] of shape (B, H, W, C, F)."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=shape[:4])
    kernel = rng.normal(size=(3, 3, *shape[3:])) / np.sqrt(9 * shape[3])
    return jnp.asarray(x, dtype), jnp.asarray(kernel, dtype)


def largest_difference(a, b):
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return np.abs(a - b).max() / np.abs(b).max()


def results(x, kernel, formulation, dilation):
    """The convolution and both gradients of a sum weighted at random."""
    weights = jax.random.normal(jax.random.key(1), (*x.shape[:3], kernel.shape[-1]), x.dtype)

    @jax.jit
    def all_of_them(x, kernel):
        def f(x, kernel):
            return conv2d(x, kernel, dilation=dilation, formulation=formulation)

        y, back = jax.vjp(f, x, kernel)
        return y, *back(weights)

    return all_of_them(x, kernel)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dilation", [1, 2, 3])
@pytest.mark.parametrize("formulation", ["winograd", "packed", "auto"])
def test_forms_agree_with_gradients(shape, dilation, formulation):
    x, kernel = made(*shape)
    got = results(x, kernel, formulation, dilation)
    for mine, native in zip(got, results(x, kernel, "native", dilation), strict=True):
        assert mine.shape == native.shape
        assert largest_difference(mine, native) < 1e-5


def test_rounding_errors_are_small_beside_float64():
    x, kernel = made(1, 32, 32, 256, 16)
    exact = np.zeros((1, 32, 32, 16))
    padded = np.pad(np.asarray(x, np.float64), ((0, 0), (1, 1), (1, 1), (0, 0)))
    for i in range(3):
        for j in range(3):
            exact += padded[:, i : i + 32, j : j + 32] @ np.asarray(kernel[i, j], np.float64)
    assert largest_difference(winograd.convolve(x, kernel), exact) < 3e-6


def test_derivatives_are_those_of_finite_differences():
    x, kernel = made(1, 6, 5, 2, 3)
    check_grads(lambda x, k: conv2d(x, k, formulation="winograd"), (x, kernel), 1, ["rev"], eps=0.1)


def test_bfloat16_is_computed_in_float32():
    x, kernel = made(1, 8, 8, 64, 64, dtype=jnp.bfloat16)
    exact = conv2d(x.astype(jnp.float32), kernel.astype(jnp.float32), formulation="native")
    for formulation in ("auto", *module.FORMS):
        got = conv2d(x, kernel, formulation=formulation)
        assert got.dtype == jnp.bfloat16
        assert largest_difference(got, exact) < 0.01


def test_the_choice_falls_on_the_platform_that_is_compiled_for():
    x, kernel = made(1, 16, 16, 64, 64)
    step = jax.jit(jax.grad(lambda x, k: conv2d(x, k).sum(), argnums=(0, 1)))
    for platform, native in (("cpu", False), ("cuda", True), ("tpu", True)):
        text = step.trace(x, kernel).lower(lowering_platforms=(platform,)).as_text()
        assert ("stablehlo.convolution" in text) == native


def test_from_few_channels_to_few_several_pixels_are_one_on_a_cpu(monkeypatch):
    monkeypatch.setattr(module, "MAX_ELEMENTS", 0)  # which is Winograd's limit alone
    x, kernel = made(1, 16, 16, 3, 8)
    lowered = jax.jit(lambda x, k: conv2d(x, k)).trace(x, kernel)
    for platform, joined in (("cpu", True), ("cuda", False)):
        text = lowered.lower(lowering_platforms=(platform,)).as_text()
        assert ("tensor<3x1x18x32xf32>" in text) == joined  # 6 pixels of 3 to 4 of 8


def test_large_images_and_few_channels_are_left_to_xla(monkeypatch):
    x, kernel = made(1, 16, 16, 64, 64)

    def native(x, kernel):
        lowered = jax.jit(lambda x, k: conv2d(x, k)).trace(x, kernel)
        return "stablehlo.convolution" in lowered.lower(lowering_platforms=("cpu",)).as_text()

    assert not native(x, kernel)
    assert native(x[..., :8], kernel[:, :, :8])
    x, kernel = made(1, 20, 16, 64, 64)  # other sides: the choice for a shape is made once
    monkeypatch.setattr(module, "MAX_ELEMENTS", winograd.elements(x) - 1)
    assert native(x, kernel)


@pytest.mark.parametrize("dilation", [1, 2])
def test_layer_is_that_of_flax(dilation):
    x, _ = made(2, 9, 8, 64, 1)
    theirs = nn.Conv(64, (3, 3), kernel_dilation=dilation, padding=dilation)
    variables = theirs.init(jax.random.key(0), x)
    mine = Conv2D(64, dilation=dilation)
    assert jax.tree.map(jnp.shape, mine.init(jax.random.key(0), x)) == jax.tree.map(
        jnp.shape, variables
    )
    assert largest_difference(mine.apply(variables, x), theirs.apply(variables, x)) < 1e-5


@pytest.mark.parametrize(
    ("x", "kernel", "formulation", "message"),
    [
        ((1, 8, 8, 2), (3, 3, 3, 4), "auto", "takes"),
        ((8, 8, 2), (3, 3, 2, 4), "auto", "takes"),
        ((1, 8, 8, 2), (5, 5, 2, 4), "auto", "takes"),
        ((1, 8, 8, 2), (3, 3, 2, 4), "fft", "'fft' is not auto, native"),
    ],
)
def test_refuses_what_it_cannot_do(x, kernel, formulation, message):
    with pytest.raises(ValueError, match=message):
        conv2d(jnp.zeros(x), jnp.zeros(kernel), formulation=formulation)
