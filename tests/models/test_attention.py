"""Self-attention against the reference values, in one piece and in blocks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cellcount_jax.models import attention


def _params(pairs, case):
    params = {
        name: {"kernel": pairs[f"{case}__{name}_kernel"]} for name in ("theta", "phi", "g", "out")
    }
    for name, linear in params.items():
        if f"{case}__{name}_bias" in pairs:
            linear["bias"] = pairs[f"{case}__{name}_bias"]
    norm = {"scale": pairs[f"{case}__norm_scale"], "bias": pairs[f"{case}__norm_offset"]}
    return params | {"norm": norm}


@pytest.mark.parametrize("block", [None, 7])
@pytest.mark.parametrize("case", ["attention2d", "attention3d"])
def test_attention_agrees_with_the_reference(golden, case, block, monkeypatch):
    pairs = golden("attention")
    if block is not None:
        monkeypatch.setattr(attention, "BLOCK_TOKENS", 2 * block)
    module = attention.SelfAttention(out_bias=case == "attention3d")
    got = module.apply({"params": _params(pairs, case)}, pairs[f"{case}__x"])
    expected = pairs[f"{case}__expected_output"]
    assert np.abs(got - expected).max() <= 5e-5 * max(1, np.abs(expected).max())


@pytest.mark.parametrize("case", ["attention2d", "attention3d"])
def test_weights_agree_with_the_reference(golden, case):
    pairs, x = golden("attention"), golden("attention")[f"{case}__x"]
    tokens = x.reshape(x.shape[0], -1, x.shape[-1])
    query, key = (
        tokens @ pairs[f"{case}__{name}_kernel"] + pairs[f"{case}__{name}_bias"]
        for name in ("theta", "phi")
    )
    got = attention.attention_weights(query, key)
    np.testing.assert_allclose(got, pairs[f"{case}__expected_attention"], atol=5e-6)


def _tokens(n):
    rng = np.random.default_rng(0)
    return [jnp.asarray(rng.normal(size=(2, n, 4)), jnp.float32) for _ in range(3)]


@pytest.mark.parametrize("block", [1, 8, 10, 29, 30, 100])
def test_blocks_change_neither_result_nor_gradient(block):
    def run(block):
        def loss(*tokens):
            out = attention.attend(*tokens, block=block)
            return (out**2).sum(), out

        return jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True)(*_tokens(30))

    for got, expected in zip(jax.tree.leaves(run(block)), jax.tree.leaves(run(None)), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


def test_many_tokens_never_form_the_whole_matrix(monkeypatch):
    monkeypatch.setattr(attention, "BLOCK_TOKENS", 64)
    tokens = _tokens(6 * 32)

    def loss(block):
        return jax.jit(jax.grad(lambda *t: attention.attend(*t, block=block).sum())).lower(*tokens)

    whole, few = "tensor<2x192x192xf32>", "tensor<2x32x192xf32>"
    assert whole in loss(192).as_text()
    assert whole not in loss(None).as_text()
    assert few in loss(None).as_text()


@pytest.mark.parametrize("block", [None, 16])
def test_dropout_keeps_the_mean_and_differs_between_blocks(block):
    tokens = jnp.zeros((1, 64, 2))  # equal weights, equal values: the output counts what is kept
    out = attention.attend(
        tokens, tokens, tokens + 1, block=block, dropout=0.3, rng=jax.random.key(0)
    )
    assert out.mean() == pytest.approx(1, abs=0.03)
    assert not np.array_equal(out[:, :16], out[:, 16:32])


def test_dropout_acts_in_training_only():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 4, 4, 3)), jnp.float32)
    module = attention.SelfAttention(dropout=0.5)
    variables = module.init(jax.random.key(0), x)
    calm = module.apply(variables, x)
    assert np.array_equal(calm, attention.SelfAttention().apply(variables, x, train=True))
    trained = module.apply(variables, x, train=True, rngs={"dropout": jax.random.key(1)})
    assert not np.allclose(calm, trained)


def test_attention_refuses_nonsense():
    with pytest.raises(ValueError, match="random key"):
        attention.attend(*_tokens(4), dropout=0.1)
    with pytest.raises(ValueError, match="at least 1"):
        attention.attend(*_tokens(4), block=0)
