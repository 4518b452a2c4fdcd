"""3-D convolution: its forms agree, with their gradients, and each platform gets its own."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cellcount_jax.models.conv import conv3d_cpu
from cellcount_jax.models.conv.conv3d import Conv3D, conv3d, native


@pytest.mark.parametrize(
    ("shape", "taps"),
    [
        ((2, 5, 7, 6, 3), (3, 3, 3)),
        ((1, 1, 4, 4, 2), (3, 3, 3)),
        ((1, 2, 5, 1, 1), (5, 3, 1)),
        ((1, 4, 5, 6, 2), (2, 4, 3)),
        ((1, 3, 4, 5, 2), (1, 1, 1)),
        ((2, 3, 6, 9, 16), (3, 3, 3)),  # Winograd's form
        ((1, 1, 4, 5, 18), (3, 3, 3)),
    ],
)
def test_the_form_for_cpus_agrees_with_xlas_own(shape, taps):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=shape), jnp.float32)
    features = shape[-1] + 1 if shape[-1] >= conv3d_cpu.WINOGRAD_CHANNELS else 4
    kernel = jnp.asarray(rng.normal(size=(*taps, shape[-1], features)), jnp.float32)
    cotangent = jnp.asarray(rng.normal(size=(*shape[:-1], features)), jnp.float32)

    def run(convolve):
        @jax.jit
        def both(x, kernel):
            out, pullback = jax.vjp(convolve, x, kernel)
            return out, *pullback(cotangent)

        return both(x, kernel)

    for got, expected in zip(run(conv3d), run(native), strict=True):
        scale = max(1.0, float(jnp.abs(expected).max()))
        assert got.shape == expected.shape
        assert float(jnp.abs(got - expected).max()) <= 1e-5 * scale


@pytest.mark.parametrize("least", [1, 12, 10_000])  # one plane, two planes, all planes at a time
def test_slabs_of_planes_join_without_a_seam(least, monkeypatch):
    monkeypatch.setattr(conv3d_cpu, "MIN_TILES", least)
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(2, 6, 8, 5, 17)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(3, 3, 3, 17, 16)), jnp.float32)
    expected = native(x, kernel)
    got = conv3d_cpu.convolve(x, kernel)
    assert float(jnp.abs(got - expected).max()) <= 1e-5 * float(jnp.abs(expected).max())


def test_conv3d_follows_the_platform_it_is_compiled_for():
    convolve = jax.jit(conv3d).trace(jnp.zeros((1, 4, 4, 4, 2)), jnp.zeros((3, 3, 3, 2, 1)))
    native, loop = "tensor<3x3x3x2x1xf32>) -> tensor<1x4x4x4x1xf32>", "stablehlo.while"
    on_cpu = convolve.lower(lowering_platforms=("cpu",)).as_text()
    on_tpu = convolve.lower(lowering_platforms=("tpu",)).as_text()
    assert loop in on_cpu
    assert loop not in on_tpu
    assert any("stablehlo.convolution" in line and native in line for line in on_tpu.splitlines())


def test_conv3d_module_has_the_parameters_of_flax():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 4, 5, 6, 2)), jnp.float32)
    ours = Conv3D(3)
    params = ours.init(jax.random.key(0), x)
    params["params"]["bias"] = jnp.arange(3.0)
    np.testing.assert_allclose(
        ours.apply(params, x), nn.Conv(3, (3, 3, 3)).apply(params, x), atol=1e-5
    )
    assert Conv3D(3, dtype=jnp.bfloat16).apply(params, x).dtype == jnp.bfloat16


@pytest.mark.parametrize("convolve", [native, conv3d])
def test_conv3d_learns_in_bfloat16(convolve):
    x = jnp.ones((1, 4, 4, 4, 2), jnp.bfloat16)
    kernel = jnp.ones((3, 3, 3, 2, 1), jnp.bfloat16)
    gradient = jax.grad(lambda kernel: convolve(x, kernel).astype(jnp.float32).sum())(kernel)
    assert gradient.dtype == jnp.bfloat16
    assert gradient[1, 1, 1, 0, 0] == 64
    assert gradient[0, 0, 0, 0, 0] == pytest.approx(27, abs=0.2)


@pytest.mark.parametrize(
    ("shape", "dtype", "message"),
    [
        ((4, 4, 4, 2), jnp.float32, "kd, kh, kw"),
        ((1, 4, 4, 4, 3), jnp.float32, "kd, kh, kw"),
        ((1, 4, 4, 4, 2), jnp.bfloat16, "one dtype"),
    ],
)
def test_conv3d_refuses_what_does_not_fit(shape, dtype, message):
    with pytest.raises(ValueError, match=message):
        conv3d(jnp.zeros(shape, dtype), jnp.zeros((3, 3, 3, 2, 1)))
