"""The lab's door: `cellcount train FOLDER`, `cellcount predict PICTURES` and their helpers."""

import argparse
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from cellcount_jax.runtime import logs

POINTS_STYLES = ("plain", "napari", "fiji", "qupath", "cell_counter")

log = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; what a person can mend ends in one line and exit code 1."""
    options = _parser().parse_args(argv)
    logs.setup(verbose=options.verbose)
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

    def command(name: str, run: Callable[[argparse.Namespace], int], text: str):
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(run=run)
        return sub

    sub = command("train", _train, "Train a counter on a folder of pictures with dots.")
    sub.add_argument("folder", type=Path)
    sub.add_argument("-o", "--out", type=Path, help="folder of the run; default FOLDER/cellcount")
    sub.add_argument("--channels", nargs="+", help="channels to use, by index or name")
    sub.add_argument("--steps", type=int, help="training steps; default 800")
    sub.add_argument("--seed", type=int, default=0)

    _predict_options(
        command("predict", _predict, "Count pictures: one row a picture in OUT/counts.csv.")
    )
    sub = command("merge", _merge, "Join the tables that predict --shard made into counts.csv.")
    sub.add_argument("out", type=Path, help="folder with the tables of all shards")

    sub = command("evaluate", _evaluate, "Compare counts with the dots in a folder: a report.")
    sub.add_argument("folder", type=Path, help="pictures with dots, as for train")
    sub.add_argument("--model", type=Path, required=True, help="folder of a finished run")
    sub.add_argument("-o", "--out", type=Path, required=True)
    sub.add_argument("--radius", type=float, help="matching radius in pixels; default: as trained")
    sub.add_argument("--diameter", type=float, help="of a cell in pixels; default: estimated")
    sub.add_argument("--channels", nargs="+", help="channels to use, by index or name")

    sub = command("explain", _explain, "Show why: what each prototype adds to a picture's count.")
    sub.add_argument("paths", nargs="+", type=Path, help="files or folders")
    sub.add_argument("--model", type=Path, required=True, help="folder of a CountXplain run")
    sub.add_argument("-o", "--out", type=Path, required=True)

    sub = command("export", _export, "Write a trained counter as one file, or as StableHLO.")
    sub.add_argument("model", type=Path, help="folder of a finished run, or a .cellcount file")
    sub.add_argument("out", type=Path, help="NAME.cellcount; with --format stablehlo a folder")
    sub.add_argument("--format", choices=("cellcount", "stablehlo"), default="cellcount")
    sub.add_argument("--stage", help="of the run's method; default: the last one")
    sub.add_argument("--half", action="store_true", help="store weights with 16 bits, not 32")

    sub = command("propose", _propose, "Write first dots for a folder, to be corrected by hand.")
    sub.add_argument("folder", type=Path)
    sub.add_argument("--method", choices=("otsu", "log"), default="otsu")
    sub.add_argument("--diameter", type=float, help="of a cell in pixels; default: estimated")
    sub.add_argument("--dark", action="store_true", help="cells are darker than their ground")
    sub.add_argument("--overwrite", action="store_true", help="replace dots that are there already")

    sub = command("data", _data, "List the benchmark sets, or check one against its publication.")
    actions = sub.add_subparsers(required=True, dest="action", metavar="list|check")
    actions.add_parser("list", help="what is here and where to get the rest")
    check = actions.add_parser("check", help="images, sizes, counts against the published ones")
    check.add_argument("name")

    sub = command("dots", _dots, "Check dots against their pictures, or convert them.")
    actions = sub.add_subparsers(required=True, dest="action", metavar="check|convert")
    check = actions.add_parser("check", help="dots outside, swapped, twice, counted from 1, in um")
    check.add_argument("path", type=Path, help="a folder, or a file of dots")
    check.add_argument("--image", type=Path, help="the picture of a single file of dots")
    convert = actions.add_parser(
        "convert", help="from any format that is read to one that is written"
    )
    convert.add_argument("source", type=Path)
    convert.add_argument("target", type=Path)
    convert.add_argument("--format", help="of the target; default by its ending")

    sub = command("simulate", _simulate, "Write simulated pictures with exact dots.")
    sub.add_argument("folder", type=Path)
    sub.add_argument("-n", "--number", type=int, default=10)
    sub.add_argument("--preset", choices=("vgg", "light_sheet"), default="vgg")
    sub.add_argument("--shape", type=int, nargs="+", help="height width, or depth height width")
    sub.add_argument("--count", type=int, help="cells per picture; default: the preset's spread")
    sub.add_argument("--format", choices=("png", "tiff", "zarr"))
    sub.add_argument("--seed", type=int, default=0)
    return parser


def _predict_options(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "paths", nargs="+", type=Path, help="files, folders, patterns such as 'a*.tif'"
    )
    sub.add_argument("--model", type=Path, required=True, help="finished run, or .cellcount file")
    sub.add_argument("-o", "--out", type=Path, required=True, help="a second call goes on here")
    sub.add_argument("--pattern", help="only these of a folder's files, such as '*.tif'")
    sub.add_argument("--points-style", choices=POINTS_STYLES, default="plain")
    sub.add_argument("--density", action="store_true", help="also write density maps")
    sub.add_argument("--overlays", action="store_true", help="also draw the points on the pictures")
    sub.add_argument("--axes", help="of the files, such as ZCYX, in place of what they say")
    sub.add_argument("--channels", nargs="+", help="channels to use, by index or name")
    sub.add_argument(
        *("-v", "--voxel-size"),
        nargs=3,
        type=float,
        metavar=("Z", "Y", "X"),
        help="micrometres per pixel, in place of what the files say; flat pictures use Y and X",
    )
    sub.add_argument("--diameter", type=float, help="of a cell in pixels; default: estimated")
    sub.add_argument(
        "--regions", type=Path, help="file, or folder of files, of regions: a row for each"
    )
    sub.add_argument(
        "--shard", type=_shard, metavar="I/N", help="count every N-th file; then: cellcount merge"
    )


def _shard(text: str) -> tuple[int, int]:
    i, _, n = text.partition("/")
    if not (i.isdigit() and n.isdigit() and 1 <= int(i) <= int(n)):
        raise argparse.ArgumentTypeError(f"{text!r} is not I/N with I from 1 to N, such as 1/4")
    return int(i), int(n)


# Each command imports what it needs: `cellcount data list` should not wait for jax.


def _train(options: argparse.Namespace) -> int:
    from etils import epath

    from cellcount_jax.runtime import compilation
    from cellcount_jax.training import lab

    compilation.use_cache()
    out = epath.Path(options.out or options.folder / "cellcount")
    channels = options.channels and [int(c) if c.isdigit() else c for c in options.channels]
    results = lab.train_folder(
        options.folder, out, channels=channels, steps=options.steps, seed=options.seed
    )
    print(f"model: {out}   report: {out / 'report.html'}")
    if results.get("mae") is not None:
        print(f"{results['split']} part: off by {results['mae']:.1f} cells a picture on average")
    print(f"count more pictures: cellcount predict PICTURES --model {out} -o counts")
    return 0


def _predict(options: argparse.Namespace) -> int:
    from cellcount_jax.counting.counter import Counter
    from cellcount_jax.counting.predict import find_pictures, predict_files
    from cellcount_jax.counting.table import table_name
    from cellcount_jax.runtime import compilation

    compilation.use_cache()
    counter = Counter.load(options.model)
    paths = find_pictures(options.paths, options.out, pattern=options.pattern)
    draw = rows_of = None
    if options.regions is not None:
        from cellcount_jax.counting import regions

        rows_of = regions.rows_of(options.regions)
    if options.overlays:  # Matplotlib takes its time
        from cellcount_jax.reporting import overlays

        draw = overlays.writer(options.out / "overlays")
    failed = predict_files(
        counter,
        paths,
        options.out,
        model=str(options.model),
        points_style=options.points_style,
        density=options.density,
        axes=options.axes,
        channels=_channels(options),
        voxel_size=options.voxel_size,
        diameter=options.diameter,
        shard=options.shard,
        on_counted=draw,
        rows_of=rows_of,
        about_rows=str(options.regions),
    )
    i, n = options.shard or (1, 1)
    return _tell(len(paths[i - 1 :: n]), failed, options.out / table_name(options.shard))


def _merge(options: argparse.Namespace) -> int:
    from cellcount_jax.counting import table

    target, images, failed = table.merge(options.out)
    return _tell(images, failed, target)


def _tell(images: int, failed: int, table: Path) -> int:
    print(f"{images - failed} of {images} pictures counted: {table}")
    return 1 if failed else 0


def _channels(options: argparse.Namespace) -> list[int | str] | None:
    return options.channels and [int(c) if c.isdigit() else c for c in options.channels]


def _evaluate(options: argparse.Namespace) -> int:
    from cellcount_jax.counting.counter import Counter
    from cellcount_jax.reporting import evaluation
    from cellcount_jax.runtime import compilation

    compilation.use_cache()
    found = evaluation.write_evaluation(
        Counter.load(options.model),
        options.folder,
        options.out,
        model=str(options.model),
        radius=options.radius,
        diameter=options.diameter,
        channels=_channels(options),
    )
    print(evaluation.one_line(found))
    print(f"report: {options.out / 'evaluation.html'}")
    return 1 if found["n_failed"] else 0


def _explain(options: argparse.Namespace) -> int:
    from cellcount_jax.counting.counter import Counter
    from cellcount_jax.data.images import list_images
    from cellcount_jax.reporting import explain
    from cellcount_jax.runtime import compilation

    compilation.use_cache()
    counter = Counter.load(options.model)
    subjects = explain.subjects_of_files(list_images(options.paths))
    failed = explain.write_explanations(counter, subjects, options.out, model=str(options.model))
    print(f"{len(subjects) - failed} pictures explained: {options.out / 'explanation.html'}")
    return 1 if failed else 0


def _export(options: argparse.Namespace) -> int:
    from cellcount_jax.counting import model_file, origin, stablehlo

    if options.format == "stablehlo":
        if options.half:
            raise ValueError("--half is for model files; StableHLO keeps 32 bits")
        counter = origin.load_with_training(options.model, stage=options.stage)
        facts = stablehlo.write(counter, options.out)
        print(f"network: {options.out}   input {facts['input']}   {', '.join(facts['platforms'])}")
        return 0
    facts = model_file.export(options.model, options.out, stage=options.stage, half=options.half)
    weights = facts["weights"]
    size = options.out.stat().st_size / 1e6
    print(f"model: {options.out} ({size:.2f} MB, stage {facts['stage']} of {facts['method']})")
    if weights["dtype"] == "float16":
        print(f"weights have 16 bits; the furthest is off by {weights['max_error']:.2g}")
    print(f"count with it: cellcount predict PICTURES --model {options.out} -o counts")
    return 0


def _propose(options: argparse.Namespace) -> int:
    from cellcount_jax.data import propose

    written = propose.propose_folder(
        options.folder,
        method=options.method,
        diameter=options.diameter,
        dark=options.dark,
        overwrite=options.overwrite,
    )
    for path, number in written.items():
        print(f"{path}: {number} dots")
    print(
        "correct them by hand (napari opens the CSV files), then: cellcount train", options.folder
    )
    return 0


def _data(options: argparse.Namespace) -> int:
    from cellcount_jax.data import sources

    lines = sources.describe_all() if options.action == "list" else sources.check(options.name)
    print("\n".join(lines))
    return 0


def _dots(options: argparse.Namespace) -> int:
    from cellcount_jax.data import dots, dots_check, folder
    from cellcount_jax.data.images import read_image

    if options.action == "convert":
        dots.write_dots(options.target, dots.read_dots(options.source), format=options.format)
        return 0
    if options.path.is_dir():
        pairs = folder.find_pairs(options.path)[1]
    elif options.image is None:
        raise ValueError(f"{options.path}: name its picture with --image, or give a folder")
    else:
        pairs = {options.image: options.path}
    problems = 0
    for image, notes in pairs.items():
        shape = read_image(image).pixels.shape[:-1]
        for line in dots_check.check_dots(notes, shape):
            problems += 1
            print(line)
    print(f"{len(pairs)} files of dots checked, {problems} remarks")
    return 1 if problems else 0


def _simulate(options: argparse.Namespace) -> int:
    from cellcount_jax.data import simulate

    simulate.write_simulated(
        options.folder,
        options.number,
        seed=options.seed,
        shape=options.shape,
        preset=options.preset,
        count=options.count,
        format=options.format,
    )
    print(f"{options.number} pictures with their dots: {options.folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
