"""What the user sees while a stage trains."""

import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import jax
from tqdm import tqdm

log = logging.getLogger(__name__)


def describe(name: str, trained: Any, compiled: Any, steps: int, seconds: float) -> None:
    """Logs parameters, FLOPs and memory of the compiled step, and the compilation time."""
    parameters = sum(x.size for x in jax.tree.leaves(trained))
    cost = compiled.cost_analysis() or {}
    memory = compiled.memory_analysis()
    used = memory.temp_size_in_bytes + memory.argument_size_in_bytes if memory else 0
    log.info(
        "stage %s: %s parameters trained, %d steps, %.1f GFLOP and %.2f GiB per step and device; "
        "compiled in %.1f s",
        name,
        f"{parameters:,}",
        steps,
        float(cost.get("flops", 0.0)) / 1e9,
        used / 2**30,
        seconds,
    )


class Bar:
    """Progress bar of one stage with loss, validation error and time left."""

    def __init__(self, inner: tqdm):
        self._inner = inner
        self._shown: dict[str, str] = {}

    def advance(self, logged: Sequence[dict[str, float]], steps: int = 1) -> None:
        """Advances by `steps`; `logged` holds the metrics since the last validation."""
        if logged:
            self._shown["loss"] = f"{logged[-1]['loss']:.4g}"
        self._inner.set_postfix(self._shown, refresh=False)
        self._inner.update(steps)

    def validated(self, error: float) -> None:
        """Shows the error by which the checkpoint is chosen."""
        if error >= 0:
            self._shown["validation"] = f"{error:.4g}"
            self._inner.set_postfix(self._shown)


@contextmanager
def bar(name: str, steps: int, at: int) -> Iterator[Bar]:
    """A progress bar on a terminal, otherwise an occasional line."""
    terminal = sys.stderr.isatty()
    with tqdm(
        total=steps,
        initial=at,
        desc=name,
        unit="step",
        disable=jax.process_index() != 0,
        mininterval=0.2 if terminal else 15.0,
        file=sys.stderr,
    ) as inner:
        yield Bar(inner)
