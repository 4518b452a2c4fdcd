"""The one table of methods: a name in a config, the function that builds its stages."""

from collections.abc import Callable

from ml_collections import ConfigDict

from cellcount_jax.methods import consistency, csrnet, dcl, density
from cellcount_jax.methods.base import Stage
from cellcount_jax.methods.countxplain import method as countxplain

METHODS: dict[str, Callable[[ConfigDict], tuple[Stage, ...]]] = {
    "consistency": consistency.stages,
    "countxplain": countxplain.stages,
    "csrnet": csrnet.stages,
    "dcl": dcl.stages,
    "density": density.stages,
}


def build_stages(config: ConfigDict) -> tuple[Stage, ...]:
    """Stages of `config.method`.

    Raises:
      ValueError: No method of that name.
    """
    if config.method not in METHODS:
        raise ValueError(f"config.method: no method {config.method!r}; there are {sorted(METHODS)}")
    return METHODS[config.method](config)
