"""Copies into one folder what `benchmarks.gpu` needs on a machine without a package index.

    CELLCOUNT_RAW_DIR=DATA python -m benchmarks.gpu.prepare --to .gpu --sets vgg_cells adi
    CELLCOUNT_RAW_DIR=DATA python -m benchmarks.gpu.prepare --to .gpu --sets mbm

In the folder afterwards: `data/` with the sets asked for (others in it are removed) and VGG-16's
weights in float16, and `wheels/` with the packages of `PACKAGES` for Python 3.12 on Linux x86-64.
The folder is added to `.git/info/exclude`; if it and the repository's files together take more than
`--limit-mib`, that is an error.
"""

import argparse
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cellcount_jax.models.pretrained import OXFORD_FILE, RAW_DIR

PACKAGES = (
    "array_record",
    "defusedxml",
    "dm-tree",
    "docstring_parser",
    "googleapis-common-protos",
    "immutabledict",
    "importlib_resources",
    "ml_collections",
    "pooch",
    "platformdirs",
    "protobuf>=6.33.5,<8",
    "roifile",
    "simple-parsing",
    "tensorflow-datasets>=4.9.9",
    "tensorflow-metadata",
    "termcolor",
    "toml",
)
"""What data preparation and configs need and machines with JAX and Flax may lack."""

PURE_SOURCES = ("promise",)
"""Pure Python without a published wheel, which is built here."""

DEFINITIONS = (
    "audio",
    "datasets",
    "image_classification",
    "object_detection",
    "question_answering",
    "rl_unplugged",
    "structured",
    "summarization",
    "text",
    "translate",
    "video",
)
"""Folders of TensorFlow Datasets that define datasets of others: 4 of its wheel's 5 MiB."""

PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux2014_x86_64")


def main() -> None:
    """Copies data and weights, downloads wheels, and checks the size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--to", type=Path, default=Path(".gpu"), help="folder")
    parser.add_argument("--sets", nargs="+", default=["vgg_cells", "adi"])
    parser.add_argument("--python", default="3.12", help="version on the other machine")
    parser.add_argument("--no-wheels", action="store_true", help="leave the wheels as they are")
    parser.add_argument("--limit-mib", type=float, default=64.0)
    options = parser.parse_args()
    raw = os.environ.get(RAW_DIR)
    if not raw:
        sys.exit(f"{RAW_DIR} is not set; set it to the folder that holds the datasets")
    exclude(options.to)
    copy_data(Path(raw), options.to / "data", options.sets)
    if not options.no_wheels:
        fetch_wheels(options.to / "wheels", options.python)
    files = [p for p in options.to.rglob("*") if p.is_file()]
    tracked = subprocess.run(["git", "ls-files", "-z"], capture_output=True, text=True).stdout
    files += [p for p in map(Path, tracked.split("\0")) if p.is_file()]
    size = sum(p.stat().st_size for p in files) / 2**20
    print(f"{options.to} and the repository: {size:.1f} MiB")
    if size > options.limit_mib:
        sys.exit(f"more than {options.limit_mib:g} MiB; take fewer sets")


def exclude(folder: Path) -> None:
    """Adds a folder inside a repository to its `.git/info/exclude`, once."""
    found = subprocess.run(
        ["git", "rev-parse", "--git-path", "info/exclude"], capture_output=True, text=True
    )
    if found.returncode or folder.is_absolute():
        return
    path = Path(found.stdout.strip())
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = path.read_text().splitlines() if path.exists() else []
    if f"/{folder.as_posix()}/" not in lines:
        path.write_text("\n".join([*lines, f"/{folder.as_posix()}/"]) + "\n")


def copy_data(raw: Path, to: Path, sets: Sequence[str]) -> None:
    """Copies datasets and the weights; what else lies in `to` is removed."""
    shutil.rmtree(to, ignore_errors=True)
    for name in sets:
        shutil.copytree(raw / name, to / name)
    weights = to / OXFORD_FILE
    weights.parent.mkdir(parents=True)
    with np.load(raw / OXFORD_FILE) as arrays:
        np.savez_compressed(weights, **{name: arrays[name].astype(np.float16) for name in arrays})


def fetch_wheels(to: Path, python: str) -> None:
    """Downloads the wheels for Linux x86-64, and builds those that are pure Python."""
    shutil.rmtree(to, ignore_errors=True)
    pip = [sys.executable, "-m", "pip"]
    platforms = [f"--platform={name}" for name in PLATFORMS]
    only = ["--no-deps", "--only-binary=:all:", f"--python-version={python}", "--implementation=cp"]
    # One by one: a resolver would look at what this Python has installed.
    for package in PACKAGES:
        subprocess.run([*pip, "download", "-q", *only, *platforms, "-d", to, package], check=True)
    # The project's own wheel makes its version known; the code is that of the repository.
    subprocess.run([*pip, "wheel", "-q", "--no-deps", "-w", to, *PURE_SOURCES, "."], check=True)
    for wheel in to.glob("tensorflow_datasets-*.whl"):
        without_definitions(wheel)


def without_definitions(wheel: Path) -> None:
    """Removes the folders `DEFINITIONS` from the wheel of TensorFlow Datasets."""
    whole = wheel.with_suffix(".whole")
    wheel.rename(whole)
    with zipfile.ZipFile(whole) as old, zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as new:
        for item in old.infolist():
            content = old.read(item)
            if item.filename.endswith(".dist-info/RECORD"):
                lines = content.decode().splitlines()
                content = "\n".join(n for n in lines if not is_definition(n)).encode()
            if not is_definition(item.filename):
                new.writestr(item, content)
    whole.unlink()


def is_definition(path: str) -> bool:
    """Whether a file of the wheel lies in one of `DEFINITIONS`."""
    return path.split("/")[1] in DEFINITIONS


if __name__ == "__main__":
    main()
