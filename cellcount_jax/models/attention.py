"""Self-attention of SAU-Net (Guo et al., ACM BCB 2019): every position attends to all others.

The weights are a softmax over the keys of plain inner products, not divided by the root of their
length. Positions are "tokens", flattened row by row; images and volumes alike.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from cellcount_jax.models import layers

BLOCK_TOKENS = 2048
"""More tokens than this are attended to in blocks of queries, see `attend`."""


def attend(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    *,
    block: int | None = None,
    dropout: float = 0.0,
    rng: jax.Array | None = None,
) -> jax.Array:
    """Values averaged with the softmax of the inner products of each query with all keys.

    In blocks of queries, each against all keys, the result is the same to rounding, but no more
    than one block's weights exist at a time: the gradient computes them again, block by block.

    Args:
      query: [B, N, C].
      key: [B, M, C].
      value: [B, M, F].
      block: Queries per block; None: everything at once up to `BLOCK_TOKENS` queries, above it the
        least number of equal blocks of at most half as many.
      dropout: Share of the weights set to 0, the others scaled up so that their mean stays.
      rng: Random key of the dropout; needed if there is any.

    Returns:
      [B, N, F] in the dtype of `value`; the softmax is computed in float32.

    Raises:
      ValueError: Dropout without a random key, or a block of less than one query.
    """
    if dropout and rng is None:
        raise ValueError(f"attention with dropout {dropout} needs a random key")
    if block is not None and block < 1:
        raise ValueError(f"a block of attention has at least 1 query, got {block}")
    B, N, C = query.shape
    block = block or (N if N <= BLOCK_TOKENS else BLOCK_TOKENS // 2)
    blocks = -(-N // block)
    if blocks <= 1:
        return _attend_at_once(query, key, value, dropout, rng)
    size = -(-N // blocks)
    padded = jnp.pad(query, ((0, 0), (0, blocks * size - N), (0, 0)))
    padded = jnp.moveaxis(padded.reshape(B, blocks, size, C), 1, 0)

    @jax.checkpoint
    def one_block(item: tuple[jax.Array, jax.Array]) -> jax.Array:
        index, queries = item
        block_rng = None if rng is None else jax.random.fold_in(rng, index)
        return _attend_at_once(queries, key, value, dropout, block_rng)

    out = jax.lax.map(one_block, (jnp.arange(blocks), padded))  # [blocks, B, size, F]
    return jnp.moveaxis(out, 0, 1).reshape(B, blocks * size, -1)[:, :N]


def attention_weights(query: jax.Array, key: jax.Array) -> jax.Array:
    """Softmax over the keys of the unscaled inner products.

    Args:
      query: [B, N, C].
      key: [B, M, C].

    Returns:
      [B, N, M] float32; each row sums to 1.
    """
    scores = jnp.einsum("bnc,bmc->bnm", query, key, preferred_element_type=jnp.float32)
    return jax.nn.softmax(scores, axis=-1)


def _attend_at_once(
    query: jax.Array, key: jax.Array, value: jax.Array, dropout: float, rng: jax.Array | None
) -> jax.Array:
    weights = attention_weights(query, key)
    if dropout and rng is not None:
        kept = jax.random.bernoulli(rng, 1 - dropout, weights.shape)
        weights = jnp.where(kept, weights / (1 - dropout), 0)
    return jnp.einsum("bnm,bmf->bnf", weights.astype(value.dtype), value)


class SelfAttention(nn.Module):
    """x + norm(ReLU(linear(attention(x)))), all of the width of x.

    Parameters: the linear maps `theta` (queries), `phi` (keys), `g` (values) and `out`, each with
    `kernel` [C, C] and `bias` [C], and those of the norm.

    Attributes:
      norm: "instance" or "batch", see `layers.norm`.
      dropout: Share of the attention weights dropped in training; uses the "dropout" random stream.
      out_bias: Whether `out` has a bias.
      dtype: Dtype of the computation and the output; parameters and the softmax are float32.
    """

    norm: str = "instance"
    dropout: float = 0.0
    out_bias: bool = True
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(
        self, x: jax.Array, *, train: bool = False, mask: jax.Array | None = None
    ) -> jax.Array:
        """Attended features [B, *space, C], the shape of `x`; `mask` [B] as in `layers.norm`."""
        x = x.astype(self.dtype)
        linear = functools.partial(
            nn.Dense, x.shape[-1], kernel_init=layers.glorot, dtype=self.dtype
        )
        tokens = x.reshape(x.shape[0], -1, x.shape[-1])
        query, key, value = (linear(name=name)(tokens) for name in ("theta", "phi", "g"))
        dropout = self.dropout if train else 0.0
        rng = self.make_rng("dropout") if dropout else None
        seen = attend(query, key, value, dropout=dropout, rng=rng)
        seen = nn.relu(linear(use_bias=self.out_bias, name="out")(seen)).reshape(x.shape)
        return x + layers.norm(seen, self.norm, train=train, mask=mask, dtype=self.dtype)
