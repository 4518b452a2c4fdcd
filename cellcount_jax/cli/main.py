"""Command-line interface: `cellcount train`, `predict`, `evaluate`, `explain`, `export`, ..."""

import argparse
import difflib
import logging
import sys
from collections.abc import Sequence
from typing import NoReturn

import cellcount_jax
from cellcount_jax.cli import annotate, data, evaluate, export, predict, survey, train
from cellcount_jax.cli.common import VERBOSE_HELP, Run, add_parser
from cellcount_jax.runtime import setup
from cellcount_jax.runtime.error_text import one_line

DESCRIPTION = (
    "Count cells in microscopy images and volumes: train a counter on images with dots, apply it "
    "to new images, evaluate and explain it. `cellcount COMMAND -h` lists a command's options."
)

COMMAND_FILES = (train, predict, evaluate, survey, export, annotate, data)
"""Files of commands, in the order of the help text."""

log = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; user errors print one line and exit with status 1, Ctrl-C with 130."""
    given = sys.argv[1:] if argv is None else list(argv)
    parser, names = _parser()
    if not given:
        parser.print_help()
        return 2
    if not given[0].startswith("-") and given[0] not in names:
        near = difflib.get_close_matches(given[0], names, n=1)
        advice = f"did you mean {near[0]}?" if near else f"there are {', '.join(names)}"
        parser.error(f"no command {given[0]!r}; {advice}")
    options = parser.parse_args(given)
    setup.configure_logging(verbose=options.verbose)
    setup.stop_when_terminated()
    try:
        return options.run(options)
    except (KeyboardInterrupt, ImportError) as error:
        stopped = setup.interruption(error)
        if stopped is None:
            raise
        print("stopped; finished work is kept; rerun the same command to resume", file=sys.stderr)
        return setup.exit_code(stopped)
    except (ValueError, OSError, RuntimeError) as error:
        log.debug("traceback", exc_info=True)
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 1


def run() -> NoReturn:
    """Entry of the command `cellcount`."""
    setup.end_process(main())


def _parser() -> tuple[argparse.ArgumentParser, list[str]]:
    """The parser of all commands, and their names."""
    parser = argparse.ArgumentParser(prog="cellcount", description=DESCRIPTION)
    parser.add_argument("-v", "--verbose", action="store_true", help=VERBOSE_HELP)
    parser.add_argument(
        "--version", action="version", version=f"cellcount_jax {cellcount_jax.__version__}"
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Run, text: str, end: str) -> argparse.ArgumentParser:
        sub = add_parser(commands, name, text, end)
        sub.set_defaults(run=run)
        return sub

    for file in COMMAND_FILES:
        file.add(command)
    return parser, list(commands.choices)


if __name__ == "__main__":
    run()
