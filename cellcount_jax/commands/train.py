"""`cellcount train`: a counter from a folder of pictures with dots."""

import argparse
from pathlib import Path

from cellcount_jax.commands.shared import AddCommand, channels_of, get_ready


def add(command: AddCommand) -> None:
    """Adds the commands of this file."""
    sub = command("train", _train, "Train a counter on a folder of pictures with dots.")
    sub.add_argument("folder", type=Path)
    sub.add_argument("-o", "--out", type=Path, help="folder of the run; default FOLDER/cellcount")
    sub.add_argument("--channels", nargs="+", help="channels to use, by index or name")
    sub.add_argument("--steps", type=int, help="training steps; default 800")
    sub.add_argument("--seed", type=int, default=0)


def _train(options: argparse.Namespace) -> int:
    from etils import epath

    from cellcount_jax.training import lab

    get_ready()
    out = epath.Path(options.out or options.folder / "cellcount")
    results = lab.train_folder(
        options.folder,
        out,
        channels=channels_of(options.channels),
        steps=options.steps,
        seed=options.seed,
    )
    print(f"model: {out}   report: {out / 'report.html'}")
    if results.get("mae") is not None:
        print(f"{results['split']} part: off by {results['mae']:.1f} cells a picture on average")
    print(f"count more pictures: cellcount predict PICTURES --model {out} -o counts")
    return 0
