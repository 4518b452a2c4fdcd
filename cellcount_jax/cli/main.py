"""The lab's door: `cellcount train FOLDER`, `cellcount predict IMAGES` and their helpers."""

import argparse
import logging
import sys
from collections.abc import Sequence

from cellcount_jax.cli import data, evaluate, export, predict, train
from cellcount_jax.cli.common import Run
from cellcount_jax.runtime import setup

GROUPS = (train, predict, evaluate, export, data)
"""In the order in which the help names them."""

log = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; what a person can mend ends in one line and exit code 1."""
    options = _parser().parse_args(argv)
    setup.configure_logging(verbose=options.verbose)
    try:
        return options.run(options)
    except KeyboardInterrupt:
        print("stopped; what was finished is kept", file=sys.stderr)
        return 130
    except (ValueError, OSError, RuntimeError) as error:
        log.debug("where it happened", exc_info=True)
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="cellcount", description=__doc__)
    parser.add_argument("-v", "--verbose", action="store_true", help="show where an error happened")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Run, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(run=run)
        return sub

    for group in GROUPS:
        group.add(command)
    return parser


if __name__ == "__main__":
    sys.exit(main())
