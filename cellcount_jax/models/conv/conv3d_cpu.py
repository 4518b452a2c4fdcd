"""3-D convolution plane by plane through a volume, the form that is fast on CPUs.

Output plane d is a 2-D convolution of the kd input planes around it, joined along the channels; the
gradient for the kernel adds up, plane by plane, matrix products of the plane's shifted copies with
the output planes that it reaches. One plane's worth of copies is alive at a time and stays in the
cache. Kernels of 3x3x3 between enough channels go through `winograd`, which multiplies a quarter
as often: a plane is transformed once; then, whichever moves fewer numbers, it is joined to its
neighbours and multiplied, or multiplied by the taps of all three and added to its neighbours.

Volumes are [B, D, H, W, C], kernels [kd, kh, kw, C, F], stride 1, zero padding ("SAME").
"""

import jax
import jax.numpy as jnp
import numpy as np

from cellcount_jax.models.conv import winograd

WINOGRAD_CHANNELS = 16
"""Least number of input and output channels for Winograd's form."""

MIN_TILES = 2304
"""Least number of tiles in one matrix product of Winograd's form: fewer keep only one core busy."""


def convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """The convolution, [B, D, H, W, F] in the dtype of x."""
    if _suits_winograd(kernel):
        return _convolve_by_winograd(x, kernel)
    return _convolve(x, kernel, [(size - 1) // 2 for size in kernel.shape[:3]])


def gradients(x: jax.Array, kernel: jax.Array, cotangent: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Gradients of `sum(convolve(x, kernel) * cotangent)` for x and for the kernel."""
    flipped = jnp.flip(kernel, (0, 1, 2)).swapaxes(3, 4)
    if _suits_winograd(kernel):
        return _convolve_by_winograd(cotangent, flipped), _kernel_by_winograd(x, cotangent)
    for_x = _convolve(cotangent, flipped, [size // 2 for size in kernel.shape[:3]])
    return for_x, _kernel_gradient(x, kernel, cotangent)


def _suits_winograd(kernel: jax.Array) -> bool:
    return kernel.shape[:3] == (3, 3, 3) and min(kernel.shape[3:]) >= WINOGRAD_CHANNELS


def _convolve_by_winograd(x: jax.Array, kernel: jax.Array) -> jax.Array:
    channels, features = kernel.shape[3:]
    return (_multiplied_first if channels > features else _joined_first)(x, kernel)


def _joined_first(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Plane by plane: those around it are joined along the channels and multiplied at once."""
    C, (H, W) = x.shape[-1], x.shape[2:4]
    weights = winograd.weights(kernel.transpose(1, 2, 0, 3, 4).reshape(3, 3, 3 * C, -1))
    planes = jnp.moveaxis(x, 1, 0)
    following = jnp.concatenate([planes[1:], jnp.zeros_like(planes[:1])])
    first = winograd.transformed(planes[0])

    def plane(
        known: tuple[jax.Array, jax.Array], following: jax.Array
    ) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
        before, here = known
        after = winograd.transformed(following)
        joined = jnp.concatenate([before, here, after], axis=-1)
        return (here, after), winograd.result(joined, weights, (H, W)).astype(x.dtype)

    _, out = jax.lax.scan(plane, (jnp.zeros_like(first), first), following)
    return jnp.moveaxis(out, 0, 1)


def _multiplied_first(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Slab by slab: each plane is multiplied by the three taps, and its neighbours' are added.

    A slab's last plane waits for the next slab, so that output lags one plane behind.
    """
    (B, D, H, W, _), F = x.shape, kernel.shape[-1]
    weights = winograd.weights(kernel.transpose(1, 2, 3, 0, 4).reshape(3, 3, -1, 3 * F))

    def slab(waiting: _Waiting, x: jax.Array) -> tuple[_Waiting, jax.Array]:
        n = len(x)
        flat = x.reshape(-1, *x.shape[2:])
        products = winograd.multiplied(winograd.transformed(flat), weights)
        products = products.reshape(winograd.SPAN**2, n, B, *products.shape[2:])
        after, here, before = (products[..., i * F : (i + 1) * F] for i in range(3))
        # Carried over: the plane before the slab without its last addend, the slab's first plane's
        # first.
        incomplete, first = waiting
        here = here + jnp.concatenate([first[:, None], after[:, :-1]], axis=1)
        whole = before + jnp.concatenate([incomplete[:, None], here[:, :-1]], axis=1)
        out = winograd.interpolated(whole.reshape(winograd.SPAN**2, n * B, *whole.shape[3:]))
        return (here[:, -1], after[:, -1]), out[:, :H, :W].reshape(n, B, H, W, F).astype(x.dtype)

    nothing = jnp.zeros((winograd.SPAN**2, B, *winograd.grid(H, W), F), jnp.float32)
    (last, _), out = jax.lax.scan(slab, (nothing, nothing), _slabs(x))
    last = winograd.interpolated(last)[:, :H, :W].astype(x.dtype)
    out = jnp.concatenate([out.reshape(D, B, H, W, F)[1:], last[None]])
    return jnp.moveaxis(out, 0, 1)


_Waiting = tuple[jax.Array, jax.Array]


def _slabs(x: jax.Array) -> jax.Array:
    """Planes of [B, D, H, W, C] in slabs that are large enough, [D / n, n, B, H, W, C]."""
    B, D, H, W, _ = x.shape
    tiles = B * np.prod(winograd.grid(H, W))
    n = next(n for n in range(1, D + 1) if D % n == 0 and (n * tiles >= MIN_TILES or n == D))
    planes = jnp.moveaxis(x, 1, 0)
    return planes.reshape(D // n, n, *planes.shape[1:])


def _kernel_by_winograd(x: jax.Array, cotangent: jax.Array) -> jax.Array:
    """A plane of the input meets the output planes after, at and before it, by the taps in turn."""
    C, F = x.shape[-1], cotangent.shape[-1]
    planes, reached = jnp.moveaxis(x, 1, 0), jnp.moveaxis(cotangent, 1, 0)
    following = jnp.concatenate([reached[1:], jnp.zeros_like(reached[:1])])
    first = winograd.product_gradients(reached[0])

    def plane(
        known: tuple[jax.Array, jax.Array, jax.Array], given: tuple[jax.Array, jax.Array]
    ) -> tuple[tuple[jax.Array, jax.Array, jax.Array], None]:
        total, before, here = known
        plane, following = given
        after = winograd.product_gradients(following)
        joined = jnp.concatenate([after, here, before], axis=-1)
        total += winograd.weight_gradients(winograd.transformed(plane), joined)
        return (total, here, after), None

    nothing = jnp.zeros((winograd.SPAN**2, C, 3 * F), jnp.float32)
    start = (nothing, jnp.zeros_like(first), first)
    (total, _, _), _ = jax.lax.scan(plane, start, (planes, following))
    total = winograd.kernel_gradient(total)
    return total.reshape(3, 3, C, 3, F).transpose(3, 0, 1, 2, 4).astype(x.dtype)


def _convolve(x: jax.Array, kernel: jax.Array, before: list[int]) -> jax.Array:
    """The convolution with this many zeros before the volume per axis and an output per input."""
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
