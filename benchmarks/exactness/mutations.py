"""Mutation test: breaks one line of maths at a time and runs the tests that should notice.

    python -m benchmarks.exactness.mutations                 # all, about 15 minutes on two cores
    python -m benchmarks.exactness.mutations --only halo ema # by name
    python -m benchmarks.exactness.mutations --list

Each mutation of `mutation_list` is applied to a copy of the repository in a temporary folder; the
working tree is not touched. First the tests must pass on the unchanged copy. A mutation is caught
if a test fails, and has survived if all pass. Prints a table; the exit status is 1 unless every
mutation is caught. A mutation whose text is no longer in its file is an error: adapt it.
"""

import argparse
import dataclasses
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.exactness.mutation_list import MUTATIONS, Mutation
from benchmarks.output import markdown

ROOT = Path(__file__).resolve().parents[2]

PYTEST_PASSED, PYTEST_FAILED = 0, 1


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What the tests made of a mutation.

    Attributes:
      verdict: "caught", "SURVIVED" or "timed out".
      seconds: Duration of the tests.
      first: The first test that failed, if any.
    """

    verdict: str
    seconds: float
    first: str = ""


class MutationError(Exception):
    """A mutation does not apply, or its tests give no verdict."""


def chosen(only: Sequence[str]) -> list[Mutation]:
    """The mutations of the given names, or all.

    Raises:
      MutationError: A name is unknown or occurs twice in the list.
    """
    names = [mutation.name for mutation in MUTATIONS]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise MutationError(f"names used twice in mutation_list.py: {', '.join(twice)}")
    if unknown := sorted(set(only) - set(names)):
        raise MutationError(f"no mutation is named {', '.join(unknown)}; see --list")
    return [mutation for mutation in MUTATIONS if not only or mutation.name in only]


def mutated(mutation: Mutation, root: Path) -> str:
    """The text of the mutation's file with the mutation applied.

    Raises:
      MutationError: The old text is not in the file exactly once.
    """
    path = root / mutation.file
    text = path.read_text() if path.exists() else ""
    if (found := text.count(mutation.old)) != 1:
        raise MutationError(
            f"mutation {mutation.name} no longer applies: {mutation.file} contains its old text "
            f"{found} times instead of once; adapt benchmarks/exactness/mutation_list.py"
        )
    return text.replace(mutation.old, mutation.new)


def copy_repository(folder: Path) -> None:
    """Copies all files that git knows or would add; compiled and ignored files stay behind."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)


def run_tests(tests: Iterable[str], root: Path, *, seconds: float) -> Outcome:
    """Runs tests of the copy.

    Raises:
      MutationError: pytest ended without a verdict.
    """
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--tb=line"]
    environment = {
        **os.environ,
        "PYTHONPATH": str(root),
        # Files change within a second; compiled ones would be taken for those of the new text.
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    started = time.monotonic()
    try:
        done = subprocess.run(
            [*command, *tests],
            cwd=root,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        return Outcome("timed out", seconds)
    took = time.monotonic() - started
    if done.returncode == PYTEST_PASSED:
        return Outcome("SURVIVED", took)
    failed = [line for line in done.stdout.splitlines() if line.startswith("FAILED ")]
    if done.returncode != PYTEST_FAILED or not failed:
        raise MutationError(
            f"pytest ended with status {done.returncode} and no failed test:\n{done.stdout[-2000:]}"
        )
    return Outcome("caught", took, failed[0].split(" - ")[0].removeprefix("FAILED "))


def check_unchanged(mutations: Sequence[Mutation], root: Path, *, seconds: float) -> None:
    """Raises MutationError unless the tests of all mutations pass and import the copy."""
    command = [sys.executable, "-c", "import cellcount_jax; print(cellcount_jax.__file__)"]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    found = subprocess.check_output(command, cwd=root, env=environment, text=True).strip()
    if not Path(found).is_relative_to(root):
        raise MutationError(f"tests would import {found}, not the copy in {root}")
    tests = dict.fromkeys(test for mutation in mutations for test in mutation.tests)
    outcome = run_tests(tests, root, seconds=seconds)
    if outcome.verdict != "SURVIVED":
        raise MutationError(
            f"the tests must pass before anything is broken: {outcome.first or outcome.verdict}"
        )


def try_mutation(mutation: Mutation, root: Path, *, seconds: float) -> Outcome:
    """Applies a mutation to the copy, runs its tests and restores the file."""
    path = root / mutation.file
    original = path.read_text()
    path.write_text(mutated(mutation, root))
    try:
        return run_tests(mutation.tests, root, seconds=seconds)
    finally:
        path.write_text(original)


def main() -> None:
    """Tries the mutations and prints a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME")
    parser.add_argument("--list", action="store_true", help="print names and files, run nothing")
    parser.add_argument("--seconds", type=float, default=300, help="limit for each mutation")
    options = parser.parse_args()
    try:
        mutations = chosen(options.only)
        for mutation in mutations:
            mutated(mutation, ROOT)
        if options.list:
            print(markdown(["mutation", "file"], ([m.name, m.file] for m in mutations)))
            return
        outcomes = run_all(mutations, seconds=options.seconds)
    except MutationError as error:
        sys.exit(str(error))
    rows = ([m.name, m.file, o.verdict, o.first, f"{o.seconds:.0f}"] for m, o in outcomes)
    print(markdown(["mutation", "file", "verdict", "first failed test", "seconds"], rows))
    n_caught = sum(outcome.verdict == "caught" for _, outcome in outcomes)
    print(f"\n{n_caught} of {len(outcomes)} caught")
    if n_caught < len(outcomes):
        sys.exit(1)


def run_all(mutations: Sequence[Mutation], *, seconds: float) -> list[tuple[Mutation, Outcome]]:
    """The outcome of each mutation, tried one after the other in one copy of the repository."""
    outcomes = []
    with tempfile.TemporaryDirectory() as name:
        root = Path(name).resolve()
        copy_repository(root)
        check_unchanged(mutations, root, seconds=seconds * len(mutations))
        for mutation in mutations:
            outcome = try_mutation(mutation, root, seconds=seconds)
            print(f"{mutation.name}: {outcome.verdict} ({outcome.seconds:.0f} s)", file=sys.stderr)
            outcomes.append((mutation, outcome))
    return outcomes


if __name__ == "__main__":
    main()
