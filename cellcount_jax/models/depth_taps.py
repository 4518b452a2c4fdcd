"""3-D convolution as a walk through the planes of a volume, the quick form on a CPU.

Output plane d is a 2-D convolution of the kd input planes around it, joined along the channels; the
gradient for the kernel adds up, plane by plane, matrix products of the plane's shifted copies with
the output planes that it reaches. One plane's worth of copies is alive at a time and stays in the
cache. Volumes are [B, D, H, W, C], kernels [kd, kh, kw, C, F], stride 1, zero padding ("SAME").
"""

import jax
import jax.numpy as jnp


def convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """The convolution, [B, D, H, W, F] in the dtype of x."""
    return _convolve(x, kernel, [(size - 1) // 2 for size in kernel.shape[:3]])


def gradients(x: jax.Array, kernel: jax.Array, cotangent: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Gradients of `sum(convolve(x, kernel) * cotangent)` for x and for the kernel."""
    turned = jnp.flip(kernel, (0, 1, 2)).swapaxes(3, 4)
    for_x = _convolve(cotangent, turned, [size // 2 for size in kernel.shape[:3]])
    return for_x, _kernel_gradient(x, kernel, cotangent)


def _convolve(x: jax.Array, kernel: jax.Array, before: list[int]) -> jax.Array:
    """With so many zeros before the volume along each axis, and as many outputs as inputs."""
    B, D, H, W, C = x.shape
    kd, kh, kw, _, F = kernel.shape
    offsets = [tap - before[0] for tap in range(kd)]
    joined = kernel.transpose(1, 2, 0, 3, 4).reshape(kh, kw, kd * C, F)
    padding = [(low, size - 1 - low) for low, size in zip(before[1:], (kh, kw), strict=True)]

    def plane(d: jax.Array, out: jax.Array) -> jax.Array:
        y = jax.lax.conv_general_dilated(
            _planes(x, d, offsets),
            joined,
            (1, 1),
            padding,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        return jax.lax.dynamic_update_index_in_dim(out, y, d, 1)

    return jax.lax.fori_loop(0, D, plane, jnp.zeros((B, D, H, W, F), x.dtype))


def _kernel_gradient(x: jax.Array, kernel: jax.Array, cotangent: jax.Array) -> jax.Array:
    _, D, H, W, C = x.shape
    kd, kh, kw, _, F = kernel.shape
    before = [(size - 1) // 2 for size in kernel.shape[:3]]
    offsets = [before[0] - tap for tap in range(kd)]
    padding = ((0, 0), (before[1], kh - 1 - before[1]), (before[2], kw - 1 - before[2]), (0, 0))

    def plane(d: jax.Array, rows: list[jax.Array]) -> list[jax.Array]:
        padded = jnp.pad(jax.lax.dynamic_index_in_dim(x, d, 1, keepdims=False), padding)
        copies = jnp.concatenate([padded[:, :, tap : tap + W] for tap in range(kw)], axis=-1)
        reached = _planes(cotangent, d, offsets)
        return [row + _contract(copies[:, tap : tap + H], reached) for tap, row in enumerate(rows)]

    rows = [jnp.zeros((kw * C, kd * F), jnp.float32)] * kh
    total = jnp.stack(jax.lax.fori_loop(0, D, plane, rows))
    return total.reshape(kh, kw, C, kd, F).transpose(3, 0, 1, 2, 4).astype(kernel.dtype)


def _contract(a: jax.Array, b: jax.Array) -> jax.Array:
    return jax.lax.dot_general(
        a, b, (((0, 1, 2), (0, 1, 2)), ((), ())), preferred_element_type=jnp.float32
    )


def _planes(x: jax.Array, d: jax.Array, offsets: list[int]) -> jax.Array:
    """Planes d + offset of [B, D, H, W, C], zero outside, joined along the channels."""
    D = x.shape[1]
    planes = []
    for offset in offsets:
        index = d + offset
        plane = jax.lax.dynamic_index_in_dim(x, jnp.clip(index, 0, D - 1), 1, keepdims=False)
        planes.append(jnp.where((index >= 0) & (index < D), plane, 0) if offset else plane)
    return jnp.concatenate(planes, axis=-1)
