"""Squared distance of feature vectors to prototypes, and the similarity made from it."""

import jax
import jax.numpy as jnp


@jax.jit
def squared_distances(features: jax.Array, prototypes: jax.Array) -> jax.Array:
    """Squared Euclidean distance of every position to every prototype, by direct difference.

    The expanded square |x|^2 - 2 x.p + |p|^2 cancels near a prototype, the more so where matrix
    products are rounded to a shorter format, and the logarithm of `similarity` magnifies it.

    Args:
      features: [B, h, w, d].
      prototypes: [K, d].

    Returns:
      [B, h, w, K] float32, never negative.

    Raises:
      ValueError: feature maps of a volume, or channels differ.
    """
    if features.ndim == 5:
        raise ValueError(
            f"prototypes work on pictures [B, h, w, d], not on a volume {features.shape}"
        )
    if features.ndim != 4 or prototypes.ndim != 2 or features.shape[-1] != prototypes.shape[-1]:
        raise ValueError(
            f"features {features.shape} and prototypes {prototypes.shape} do not fit; "
            "expected [B, h, w, d] and [K, d]"
        )
    features = features.astype(jnp.float32)[..., None, :]
    prototypes = prototypes.astype(jnp.float32)[None, None, None]
    return jnp.square(features - prototypes).sum(axis=-1)


def similarity(distances: jax.Array, *, epsilon: float = 1e-4) -> jax.Array:
    """Log similarity ln((distance + 1) / (distance + epsilon)) of squared distances.

    Args:
      distances: squared distances, any shape, not negative.
      epsilon: bounds the similarity at distance 0 to -ln(epsilon) = 9.21.

    Returns:
      Same shape, float32, in (0, -ln(epsilon)].

    Source: CountXplain (MIDL 2025), section 3; ProtoPNet (NeurIPS 2019).
    """
    distances = jnp.asarray(distances).astype(jnp.float32)
    # log1p keeps the small similarities of far positions exact.
    return jnp.log1p((1.0 - epsilon) / (distances + epsilon))
