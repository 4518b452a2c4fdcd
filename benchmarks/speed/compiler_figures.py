"""Figures of a program compiled for one TPU v5e chip of many."""

import math
import re

import jax

PEAK_FLOPS = 197e12
"""bf16 operations per second of a v5e chip."""

PEAK_BYTES = 819e9
"""Bytes per second that its memory moves."""


def estimate(compiled: jax.stages.Compiled) -> dict[str, float]:
    """The compiler's figures for one chip.

    Returns:
      `flops`, `bytes`, `seconds` (the larger of the two over the peak rates), `memory` (bytes of
      arguments, results and work space), `work_space`, `collective_bytes` sent and received in
      all-reduces and the like, and the number of `loops`, `gathers` and `scatters`.
    """
    cost, memory, program = compiled.cost_analysis(), compiled.memory_analysis(), compiled.as_text()
    flops, moved = float(cost["flops"]), float(cost["bytes accessed"])
    held = memory.argument_size_in_bytes + memory.output_size_in_bytes
    held += memory.temp_size_in_bytes + memory.generated_code_size_in_bytes
    return {
        "flops": flops,
        "bytes": moved,
        "seconds": max(flops / PEAK_FLOPS, moved / PEAK_BYTES),
        "memory": held - memory.alias_size_in_bytes,
        "work_space": memory.temp_size_in_bytes,
        "collective_bytes": collective_bytes(program),
        "loops": count_of(program, "while"),
        "gathers": count_of(program, "gather"),
        "scatters": count_of(program, "scatter"),
    }


_COLLECTIVE = re.compile(
    r"= (.*?) (?:all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)(?:-start)?\("
)
_SHAPE = re.compile(r"\b(pred|[suf]\d+|bf16)\[([\d,]*)\]")


def collective_bytes(program: str) -> int:
    """Bytes of the results of all collective operations in an HLO text."""
    total = 0
    for result in _COLLECTIVE.findall(program):
        for kind, sides in _SHAPE.findall(result):
            bits = 8 if kind == "pred" else int(re.sub(r"\D", "", kind))
            total += math.prod(int(n) for n in sides.split(",") if n) * bits // 8
    return total


def count_of(program: str, operation: str) -> int:
    """Number of times that an operation occurs in an HLO text."""
    return len(re.findall(rf"= [^=]*? {operation}\(", program))
