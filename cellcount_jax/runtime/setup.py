"""Log lines for people: this package's own from INFO on, everybody else's from WARNING on."""

import logging
import sys

from absl import logging as absl_logging


def setup(*, verbose: bool = False) -> None:
    """Sends log lines to stderr without decoration.

    Args:
      verbose: everything, other packages' lines included.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        logging.Formatter("%(levelname)s: %(message)s" if verbose else "%(message)s")
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.DEBUG if verbose else logging.WARNING)
    logging.getLogger("cellcount_jax").setLevel(logging.DEBUG if verbose else logging.INFO)
    # Orbax logs through absl, which keeps a level of its own.
    absl_logging.set_verbosity(absl_logging.DEBUG if verbose else absl_logging.WARNING)
