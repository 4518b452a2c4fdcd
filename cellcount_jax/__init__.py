"""Counts cells in microscopy images and volumes from dot annotations."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cellcount_jax.inference.count import Count
    from cellcount_jax.inference.counter import Counter
    from cellcount_jax.io.annotations.dots import Dots, read_dots, write_dots
    from cellcount_jax.io.images.image import read_image
    from cellcount_jax.simulation.simulate import simulate_cells

__version__ = "0.1.0"

__all__ = [
    "Count",
    "Counter",
    "Dots",
    "__version__",
    "read_dots",
    "read_image",
    "simulate_cells",
    "write_dots",
]


def __getattr__(name: str) -> Any:
    """Imports a public name when it is first used: JAX takes seconds, and few programs need all."""
    if name == "Count":
        from cellcount_jax.inference.count import Count

        return Count
    if name == "Counter":
        from cellcount_jax.inference.counter import Counter

        return Counter
    if name in ("Dots", "read_dots", "write_dots"):
        from cellcount_jax.io.annotations import dots

        return getattr(dots, name)
    if name == "read_image":
        from cellcount_jax.io.images.image import read_image

        return read_image
    if name == "simulate_cells":
        from cellcount_jax.simulation.simulate import simulate_cells

        return simulate_cells
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
