"""Coverage-guided fuzzing of every parser of files.

    pip install atheris '.[formats]'  # without formats, CZI and ND2 are not tried
    python -m benchmarks.exactness.fuzz [--seconds 600] [--only tiff png]
    python -m benchmarks.exactness.fuzz --replay FOLDER

Each parser of `fuzz_targets` is tried in a process of its own, from small valid files on. A finding
is a file of less than 100 KB for which the parser takes over 5 s of processor time or over 1 GB of
memory, ends the process, or raises anything but an error of this package that names the file.
Findings are kept in OUT/findings/PARSER; `--replay` tries them again without instrumentation, and
a run counts those that are confirmed by that.
"""

import argparse
import contextlib
import importlib
import json
import logging
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.output import add_arguments, finish

if TYPE_CHECKING:
    from benchmarks.exactness.fuzz_targets import Target

MAX_BYTES = 100_000
MAX_SECONDS = 5.0
MAX_MEMORY, MAX_ADDRESSES = 10**9, 6 * 10**9
STALLED_SECONDS = 40
"""Without any progress, after which a process is ended: it hangs where no signal reaches it."""

STARTING_SECONDS = 300
"""The same until the first file was tried: instrumenting takes long on a busy machine."""

INSTRUMENTED = ("cellcount_jax.io", "cellcount_jax.prediction", "roifile", "tifffile", "PIL")


class TooSlowError(BaseException):
    """Raised by the timer; nothing that parsers catch."""


def targets() -> dict[str, "Target"]:
    """The parsers; imported here so that a process can instrument them first."""
    return importlib.import_module("benchmarks.exactness.fuzz_targets").TARGETS


def limit_addresses() -> None:
    """Makes allocations of more address space than `MAX_ADDRESSES` fail, used or not."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    size = pages * resource.getpagesize() + MAX_ADDRESSES
    resource.setrlimit(resource.RLIMIT_AS, (size, resource.RLIM_INFINITY))


def peak_memory() -> int:
    """Most bytes in memory since the last call of `reset_peak`."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


def reset_peak() -> None:
    """Begins a new measurement of `peak_memory`."""
    Path("/proc/self/clear_refs").write_text("5")


@contextlib.contextmanager
def limited_time() -> Iterator[None]:
    """Raises `TooSlowError` after `MAX_SECONDS` of processor time."""

    def stop(number: int, frame: object) -> None:
        del number, frame
        raise TooSlowError

    signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, MAX_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def finding(target: "Target", path: Path) -> str | None:
    """What is wrong with how a parser handles a file; None if nothing is."""
    before = peak_memory()
    try:
        with limited_time(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            target.parse(path)
    except TooSlowError:
        return f"over {MAX_SECONDS:.0f} s"
    except Exception as error:
        if any(isinstance(e, MemoryError) for e in causes(error)):
            return f"asks for over {MAX_ADDRESSES / 1e9:.0f} GB, {location(error)}"
        if not isinstance(error, target.errors):
            return f"{type(error).__name__}, {location(error)}"
        named = path.name in str(error) or path.parent.name in str(error)
        if target.errors == (ValueError,) and not named:
            return f"an error that does not name the file, {location(error)}"
    if peak_memory() > before + MAX_MEMORY:
        reset_peak()
        return f"over {MAX_MEMORY / 1e9:.0f} GB"
    return None


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and those that it was raised from."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def location(error: BaseException) -> str:
    """File and line where the first of its causes was raised."""
    *_, first = causes(error)
    frame = traceback.extract_tb(first.__traceback__)[-1]
    return f"{Path(frame.filename).name}:{frame.lineno}"


def fuzz_in_this_process(name: str, out: Path, seconds: int, seed: int) -> None:
    """Fuzzes one parser; does not return. Its counts and findings are in `out`."""
    import atheris

    with atheris.instrument_imports(include=INSTRUMENTED):
        target = targets()[name]
    logging.disable(logging.CRITICAL)
    seeds = out / "seeds"
    seeds.mkdir(parents=True, exist_ok=True)
    (out / "corpus").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as seed_folder, contextlib.chdir(seed_folder):
        valid = list(target.seeds())
    for number, data in enumerate(valid):
        (seeds / f"{number}").write_bytes(data)
    path, progress = out / "input" / target.name, out / "progress.json"
    path.parent.mkdir(exist_ok=True)
    counts: dict[str, Any] = {"executions": 0, "findings": []}
    written = 0.0

    def test(data: bytes) -> None:
        nonlocal written
        path.write_bytes(data)
        counts["executions"] += 1
        found = finding(target, path)
        new = found is not None and found not in counts["findings"]
        if new:
            (out / "findings").mkdir(exist_ok=True)
            shutil.copy(path, out / "findings" / f"{seed}-{len(counts['findings'])}")
            counts["findings"].append(found)
        if new or time.monotonic() > written + 1:
            progress.write_text(json.dumps(counts))
            written = time.monotonic()

    limit_addresses()
    options = (f"-max_total_time={seconds}", f"-max_len={MAX_BYTES}", f"-seed={seed}")
    quiet = (
        "-timeout=300",
        "-rss_limit_mb=0",
        "-verbosity=0",
        "-detect_leaks=0",
        f"-artifact_prefix={out}/",
    )
    folders = (str(out / "corpus"), str(seeds))
    atheris.Setup([sys.argv[0], *options, *quiet, *folders], test)
    atheris.Fuzz()


def fuzz(name: str, out: Path, seconds: int, seed: int) -> dict[str, Any]:
    """Fuzzes one parser for `seconds`, restarting if its process ends early.

    Returns:
      `seconds`, `executions`, the `findings` that a plain process confirms, and the number of
      kept files that are `unconfirmed`: slow only under instrumentation, or ended the process once.
    """
    shutil.rmtree(out, ignore_errors=True)
    start, executions = time.monotonic(), 0
    while (left := seconds - (time.monotonic() - start)) > 1:
        child = [sys.executable, "-m", "benchmarks.exactness.fuzz", "--child", name]
        out.mkdir(parents=True, exist_ok=True)
        with (out / "log.txt").open("a") as log:
            process = subprocess.Popen(
                [*child, "--seconds", str(int(left)), "--seed", str(seed), "--out", str(out)],
                stdout=log, stderr=log, env={**os.environ, "JAX_PLATFORMS": "cpu"},
            )  # fmt: skip
            watch(process, out)
        if not (out / "progress.json").exists():
            raise RuntimeError(f"{name}: cannot be fuzzed, see {out / 'log.txt'}")
        executions += json.loads((out / "progress.json").read_text())["executions"]
        (out / "progress.json").unlink()
        if time.monotonic() - start < seconds - 2:
            (out / "findings").mkdir(exist_ok=True)
            shutil.copy(next((out / "input").iterdir()), out / "findings" / f"{seed}-ended")
        seed += 1000
    kept = list((out / "findings").glob("*"))
    found = replay(name, out / "findings")
    figures = {"seconds": seconds, "executions": executions, "unconfirmed": len(kept) - len(found)}
    return {**figures, "findings": sorted(set(found.values()))}


def watch(process: "subprocess.Popen[bytes]", out: Path) -> None:
    """Waits for the end of a process, and ends it when it stalls."""
    last, allowed = time.time(), STARTING_SECONDS
    while process.poll() is None:
        time.sleep(0.5)
        with contextlib.suppress(FileNotFoundError):
            last = max(last, (out / "progress.json").stat().st_mtime)
            allowed = STALLED_SECONDS
        if time.time() - last > allowed:
            process.kill()
    process.wait()


def replay(name: str, folder: Path) -> dict[str, str]:
    """What is wrong with each kept file, in a fresh process for each."""
    found = {}
    for path in sorted(folder.iterdir()) if folder.exists() else ():
        child = [sys.executable, "-m", "benchmarks.exactness.fuzz", "--check", name, str(path)]
        try:
            done = subprocess.run(child, capture_output=True, text=True, timeout=STARTING_SECONDS)
            text = done.stdout.strip() or (f"status {done.returncode}" * bool(done.returncode))
        except subprocess.TimeoutExpired:
            text = "hangs"
        if text:
            found[path.name] = text
    return found


def check(name: str, path: Path) -> None:
    """Prints what is wrong with one file; nothing if all is well."""
    target = targets()[name]
    logging.disable(logging.CRITICAL)
    limit_addresses()
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / target.name
        shutil.copy(path, copy)
        print(finding(target, copy) or "")


def main(argv: Sequence[str] | None = None) -> None:
    """Fuzzes and prints a line per parser."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=int, default=600, help="for each parser")
    parser.add_argument("--only", nargs="+", help="names of parsers; default: all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--replay", type=Path, help="findings/ of an earlier run, by parser")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--check", nargs=2, help=argparse.SUPPRESS)
    add_arguments(parser)
    options = parser.parse_args(argv)
    if options.child:
        fuzz_in_this_process(options.child, options.out, options.seconds, options.seed)
    elif options.check:
        check(options.check[0], Path(options.check[1]))
    elif options.replay:
        for folder in sorted(options.replay.iterdir()):
            print(folder.name, json.dumps(replay(folder.name, folder / "findings")), flush=True)
    else:
        found = {}
        for name in options.only or targets():
            found[name] = fuzz(name, options.out / "fuzz" / name, options.seconds, options.seed)
            print(name, json.dumps(found[name]), flush=True)
        date = time.strftime("%Y-%m-%d", time.gmtime())
        finish(options, "fuzz", {"date": date, "parsers": found})


if __name__ == "__main__":
    main()
