"""A convolution in the form that is fast on the platform it is compiled for."""

from collections.abc import Callable

import jax

Pair = tuple[jax.Array, jax.Array]
"""Input and kernel, or the gradients for them."""

Convolve = Callable[[jax.Array, jax.Array], jax.Array]


def by_platform(native: Convolve, on_cpu: Convolve, cpu_gradients: Callable[..., Pair]) -> Convolve:
    """The function (input, kernel) -> output that is `on_cpu` on CPUs and `native` elsewhere.

    The choice is left to the lowering, so that a program compiled here for another platform is
    right too; the gradient is defined outside it, or both forms' intermediate results would be
    kept.

    Args:
      native: Function that is one call to XLA.
      on_cpu: The same to rounding.
      cpu_gradients: (input, kernel, cotangent) -> gradients for input and kernel, on CPUs.
    """

    def native_gradients(x: jax.Array, kernel: jax.Array, cotangent: jax.Array) -> Pair:
        return jax.vjp(native, x, kernel)[1](cotangent)

    @jax.custom_vjp
    def convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return jax.lax.platform_dependent(x, kernel, cpu=on_cpu, default=native)

    def backward(saved: Pair, cotangent: jax.Array) -> Pair:
        return jax.lax.platform_dependent(
            *saved, cotangent, cpu=cpu_gradients, default=native_gradients
        )

    convolve.defvjp(lambda x, kernel: (convolve(x, kernel), (x, kernel)), backward)
    return convolve
