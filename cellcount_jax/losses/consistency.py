"""Consistency of a student with its teacher (Guo et al., MOVI 2022)."""

import jax
import jax.numpy as jnp

from cellcount_jax.losses.gaussian_blur import gaussian_blur
from cellcount_jax.losses.masked import image_mask

NORMALISE = ("nonzero", "pixels", "weight")


def focal_weight(teacher: jax.Array, *, peak_threshold: float | None = None) -> jax.Array:
    """Weight of each position by its closeness to the peaks of the teacher's map.

    A peak equals the maximum of its neighbourhood of 3 positions per axis, so every position of a
    plateau is one; peaks are blurred by a Gaussian of 5 per axis, sigma 1, zeros beyond the map.

    Args:
      teacher: Map of the teacher, [B, H, W] or [B, D, H, W].
      peak_threshold: Keep only peaks above this share of the image's maximum; None keeps all.

    Returns:
      Weights of the same shape, float32: sum 1 for an isolated peak, larger where peaks are close.

    Raises:
      ValueError: There are neither two nor three space axes, or there is a channel axis.

    Source: Guo et al. (MOVI 2022), focal consistency; the Gaussian as in their released code.
    """
    teacher = jnp.asarray(teacher).astype(jnp.float32)
    if teacher.ndim not in (3, 4) or (teacher.ndim == 4 and teacher.shape[-1] == 1):
        raise ValueError(
            f"focal_weight: teacher {teacher.shape}; expected [B, H, W] or [B, D, H, W], "
            "without an axis of channels"
        )
    space = range(1, teacher.ndim)
    window = (1,) + (3,) * len(space)
    strides = (1,) * teacher.ndim
    highest = jax.lax.reduce_window(teacher, -jnp.inf, jax.lax.max, window, strides, "SAME")
    peaks = teacher == highest
    if peak_threshold is not None:
        peaks &= teacher > peak_threshold * teacher.max(axis=tuple(space), keepdims=True)
    weight = peaks.astype(jnp.float32)
    for axis in space:
        weight = gaussian_blur(weight, axis=axis, sigma=1.0, radius=2, border="zeros")
    return weight


def focal_consistency(
    student: jax.Array,
    teacher: jax.Array,
    *,
    normalise: str = "nonzero",
    peak_threshold: float | None = None,
    mask: jax.Array | None = None,
) -> jax.Array:
    """Squared difference of student and teacher, weighted by closeness to the teacher's peaks.

    No gradient reaches the teacher, neither through the weight nor through the difference.

    Args:
      student: Map of the student, [B, H, W] or [B, D, H, W].
      teacher: Map of the teacher, same shape.
      normalise: Divide the sum over the batch by the number of positions with a weight above 0
        ("nonzero", released code), by the number of all positions ("pixels"), or by the sum of the
        weights ("weight"): a weighted mean, on the scale of the supervised error near cells.
      peak_threshold: See `focal_weight`.
      mask: Images that count, [B]; None: all.

    Returns:
      sum(alpha (student - teacher)^2) / number of positions or sum(alpha), a float32 scalar.

    Raises:
      ValueError: Shapes differ or `normalise` is unknown.

    Source: Guo et al. (MOVI 2022), focal consistency loss.
    """
    student, teacher = jnp.asarray(student), jnp.asarray(teacher)
    if student.shape != teacher.shape:
        raise ValueError(
            f"focal_consistency: student {student.shape} and teacher {teacher.shape} "
            "differ in shape"
        )
    if normalise not in NORMALISE:
        raise ValueError(
            f"focal_consistency: normalise {normalise!r} is not one of {', '.join(NORMALISE)}"
        )
    teacher = jax.lax.stop_gradient(teacher.astype(jnp.float32))
    alpha = jax.lax.stop_gradient(focal_weight(teacher, peak_threshold=peak_threshold))
    counted = {
        "nonzero": (alpha > 0).astype(jnp.float32),
        "pixels": jnp.ones_like(alpha),
        "weight": alpha,
    }[normalise]
    if mask is not None:
        real = image_mask(mask, alpha.shape[0]).reshape((-1,) + (1,) * (alpha.ndim - 1))
        alpha, counted = alpha * real, counted * real
    total = (alpha * jnp.square(student.astype(jnp.float32) - teacher)).sum()
    return total / jnp.maximum(counted.sum(), 1.0)


def consistency_ramp(
    step: jax.Array | int, *, ramp_steps: int, shape: str = "exponential"
) -> jax.Array:
    """Weight of the consistency loss, rising to 1 at `ramp_steps` and 1 from there on.

    Args:
      step: Number of steps done, scalar or array.
      ramp_steps: Steps until the weight is 1, at least 1.
      shape: Shape of the ramp; with r = min(step / ramp_steps, 1): "exponential" is exp(5 (r - 1))
        (released code), "squared" is exp(-5 (1 - r)^2).

    Returns:
      Weight in (0, 1], float32, of the shape of `step`; it starts at exp(-5), not at 0.

    Raises:
      ValueError: ramp_steps below 1, or an unknown shape.

    Source: Guo et al. (MOVI 2022); the ramp of Ouali et al. (CVPR 2020).
    """
    if ramp_steps < 1:
        raise ValueError(f"consistency_ramp: ramp_steps is {ramp_steps}; it must be at least 1")
    left = 1.0 - jnp.minimum(jnp.asarray(step).astype(jnp.float32) / ramp_steps, 1.0)
    if shape == "exponential":
        return jnp.exp(-5.0 * left)
    if shape == "squared":
        return jnp.exp(-5.0 * jnp.square(left))
    raise ValueError(f"consistency_ramp: shape {shape!r} is not 'exponential' or 'squared'")
