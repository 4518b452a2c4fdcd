"""`cellcount export`: writes a trained counter to one file, or for other programs."""

import argparse
from pathlib import Path

from cellcount_jax.cli.common import MODEL_CHOICES, AddCommand, help_epilog

FORMAT_HELP = "model file of this package, or network for other programs; default: cellcount"


def add(command: AddCommand) -> None:
    """Adds the commands of this file."""
    end = help_epilog(
        "cellcount export my_images/cellcount nuclei_of_my_lab.cellcount",
        ("OUT", "the model file"),
        ("OUT/model.stablehlo", "with --format stablehlo: the network,"),
        ("OUT/readout.json", "how its output becomes a count,"),
        ("OUT/README.md", "and how to run it"),
    )
    text = "Write a trained counter to one file, or as StableHLO."
    sub = command("export", _export, text, end)
    sub.add_argument("model", type=Path, help=MODEL_CHOICES)
    sub.add_argument("out", type=Path, help="NAME.cellcount; with --format stablehlo a folder")
    sub.add_argument(
        "--format", choices=("cellcount", "stablehlo"), default="cellcount", help=FORMAT_HELP
    )
    sub.add_argument("--stage", help="stage of the run's method; default: the last one")
    sub.add_argument("--half", action="store_true", help="store weights as 16-bit floats, not 32")


def _export(options: argparse.Namespace) -> int:
    from cellcount_jax.export import provenance, stablehlo, write_model

    if options.format == "stablehlo":
        if options.half:
            raise ValueError("--half is for model files; StableHLO keeps 32 bits")
        counter = provenance.load_with_training(options.model, stage=options.stage)
        facts = stablehlo.write(counter, options.out)
        print(f"network: {options.out}   input {facts['input']}   {', '.join(facts['platforms'])}")
        return 0
    facts = write_model.export_model(
        options.model, options.out, stage=options.stage, half=options.half
    )
    weights = facts["weights"]
    size = options.out.stat().st_size / 1e6
    print(f"model: {options.out} ({size:.2f} MB, stage {facts['stage']} of {facts['method']})")
    if weights["dtype"] == "float16":
        print(f"weights stored with 16 bits; largest rounding error {weights['max_error']:.2g}")
    print(f"to count with it: cellcount predict IMAGES --model {options.out} -o counts")
    return 0
