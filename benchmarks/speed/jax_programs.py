"""Prediction and training step of a case, compiled as this package runs them, and their seconds."""

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.speed.case import Case
from cellcount_jax.runtime import sharding
from cellcount_jax.training.step import create_state, make_step

Advance = Callable[[], Any]
"""Does the work once and returns something to wait for."""


def prediction(case: Case) -> Advance:
    """Compiled prediction on images in device memory."""
    variables, images = jax.device_put((case.variables, case.images))
    compiled = jax.jit(case.stage.predict).lower(variables, images).compile()
    return lambda: compiled(variables, images)


def training_step(case: Case) -> Advance:
    """Compiled training step; continues from its last state, returns the metrics."""
    return training_step_with_flops(case)[0]


def training_step_with_flops(case: Case) -> tuple[Advance, float]:
    """The same, and the operations of the program as written, before it is optimised."""
    mesh = sharding.data_mesh()
    # The step donates its state; the case keeps its variables.
    variables = jax.tree.map(jnp.copy, case.variables)
    state, frozen, batch = jax.device_put(
        (create_state(variables, case.tx), variables.frozen, case.batch), sharding.replicated(mesh)
    )
    jitted = make_step(case.stage, case.tx, lambda data, _: data, mesh, seed=0)
    lowered = jitted.lower(state, frozen, batch)
    compiled = lowered.compile()

    def advance() -> Any:
        nonlocal state
        state, metrics = compiled(state, frozen, batch)
        return metrics

    return advance, float((lowered.cost_analysis() or {}).get("flops", 0.0))


PROGRAMS = {"predict": prediction, "step": training_step}


def seconds_of(advance: Advance, n: int) -> float:
    """Seconds of one of n runs in a row, which on an accelerator may be queued."""
    on_cpu = jax.default_backend() == "cpu"
    started = time.perf_counter()
    for _ in range(n):
        done = advance()
        if on_cpu:
            jax.block_until_ready(done)  # PyTorch cannot begin the next one earlier either.
    jax.block_until_ready(done)
    return (time.perf_counter() - started) / n


def matmul_rate(dtype: str, size: int) -> float:
    """Operations per second of JAX's product of two square matrices, the best of several."""
    a = jnp.asarray(np.random.default_rng(0).normal(size=(size, size)), jnp.dtype(dtype))
    product = jax.jit(jnp.matmul)
    best = min(seconds_of(lambda: product(a, a), 1) for _ in range(6))
    return 2 * size**3 / best
