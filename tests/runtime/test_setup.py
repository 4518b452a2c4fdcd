"""Huge pages change where memory comes from and nothing else; each test in its own process."""

import os
import platform
import subprocess
import sys

import pytest

from cellcount_jax.runtime import setup

PROGRAM = """
import re, jax, jax.numpy as jnp
from cellcount_jax.runtime.setup import use_huge_pages

print(use_huge_pages())
if {twice}:
    print(use_huge_pages())
x = jax.jit(lambda: jnp.ones((4096, 4096)) * 2)()
print(float(x.sum()))
rollup = open("/proc/self/smaps_rollup").read()
print(int(re.search(r"AnonHugePages: *([0-9]+) kB", rollup)[1]) // 1024)
"""


def run(program: str, **environment: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "JAX_PLATFORMS": "cpu", **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


linux = pytest.mark.skipif(
    platform.system() != "Linux" or platform.libc_ver()[0] != "glibc", reason="glibc on Linux only"
)


@linux
def test_arrays_are_in_huge_pages_and_correct():
    used, again, total, megabytes = run(PROGRAM.format(twice=True), CELLCOUNT_LARGE_PAGES="1")
    assert (used, again, total) == ("True", "True", str(2.0 * 4096**2))
    with open("/sys/kernel/mm/transparent_hugepage/enabled") as file:
        if "[never]" not in file.read():
            assert int(megabytes) >= 60  # of an array of 64 MiB


@linux
def test_an_environment_variable_turns_it_off():
    used, total, _ = run(PROGRAM.format(twice=False), CELLCOUNT_LARGE_PAGES="0")
    assert (used, total) == ("False", str(2.0 * 4096**2))


LOST = """
import gc, os, signal, time
from cellcount_jax.runtime import setup

class Collected:
    def __del__(self):
        os.kill(os.getpid(), signal.{name})
        time.sleep(0.01)  # the handler runs here, where exceptions are ignored

setup.stop_when_terminated()
try:
    Collected()
    time.sleep(60)
except KeyboardInterrupt as stopped:
    print("stopped", setup.exit_code(stopped))
"""


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGINT", 130)])
def test_a_signal_during_a_collection_of_garbage_is_not_lost(name, code):
    command = [sys.executable, "-c", LOST.format(name=name)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"stopped {code}\n"
    assert done.stderr == ""


IMPORTED = """
import os, signal, sys, time
from cellcount_jax.cli import main, predict
from cellcount_jax.runtime import setup

def import_library(options):
    try:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(60)
    except KeyboardInterrupt as stopped:
        cause = stopped
    raise ImportError("initialization failed") from {cause}

predict._predict = import_library
sys.argv = ["cellcount", "predict", "a.png"]
main.run()
"""


@pytest.mark.parametrize("cause", ["cause", "None"])
def test_an_interrupt_inside_an_import_is_one(cause):
    command = [sys.executable, "-c", IMPORTED.format(cause=cause)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr == "stopped; finished work is kept; rerun the same command to resume\n"


def test_a_library_that_is_missing_is_no_interrupt():
    assert setup.interruption(ImportError("no module")) is None


@pytest.mark.parametrize(("code", "end"), [(0, "said\nend\n"), (3, "said\nend\n"), (130, "said\n")])
def test_a_stopped_process_ends_at_once_and_says_all_that_it_said(code, end):
    program = f"""
import atexit
from cellcount_jax.runtime import setup
atexit.register(print, "end")
print("said")
setup.end_process({code})
"""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (code, end, "")
