"""Research entry point: train, evaluate, predict or explain from a config.

python -m cellcount_jax.main --config=configs/dcl_vgg.py:quick
python -m cellcount_jax.main --config=configs/dcl_vgg.py:quick --mode=predict --images=FOLDER
"""

import json
import logging
import os
import re
import sys
from pathlib import Path

from absl import app, flags
from etils import epath
from ml_collections import config_flags

from cellcount_jax.runtime import setup
from cellcount_jax.runtime.error_text import one_line

# JAX and what needs it are imported in functions: Ctrl-C in those seconds is answered, too.

log = logging.getLogger(__name__)

CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Config of the run: FILE.py or FILE.py:preset."
)
WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run; default runs/<config>_<preset>.")
MODE = flags.DEFINE_enum(
    "mode", "train", ["train", "evaluate", "predict", "explain"], "What to do."
)
DOWNLOAD = flags.DEFINE_bool("download", False, "Download the dataset if it is missing.")
IMAGES = flags.DEFINE_list("images", [], "Files or folders to count or explain.")
OUT = flags.DEFINE_string("out", None, "Folder; default WORKDIR/predictions or /explanations.")
DISTRIBUTED = flags.DEFINE_bool("distributed", False, "One run on all hosts of a TPU pod.")
COORDINATOR = flags.DEFINE_string(
    "coordinator", None, "HOST:PORT of the first of several hosts, elsewhere than on a TPU pod."
)
NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "Hosts, with --coordinator.")
PROCESS_ID = flags.DEFINE_integer("process_id", None, "Of this host from 0, with --coordinator.")

N_EXPLAINED = 3
"""Test images that are explained where none are given."""


def main(argv: list[str]) -> None:
    """Runs one mode; user errors print one line and exit with status 1."""
    if len(argv) > 1:
        raise app.UsageError(f"unknown argument {argv[1]!r}; options begin with --")
    setup.configure_logging()
    workdir = epath.Path(WORKDIR.value or default_workdir())
    modes = {"train": _train, "evaluate": _evaluate, "predict": _predict, "explain": _explain}
    try:
        _join_hosts()
        setup.configure_process()
        if not _is_first():
            logging.getLogger("cellcount_jax").setLevel(logging.WARNING)
        modes[MODE.value](workdir)
    except (ValueError, OSError, RuntimeError) as error:
        log.debug("where it happened", exc_info=True)
        print(f"error: {one_line(error)}", file=sys.stderr)
        sys.exit(1)


def _join_hosts() -> None:
    """Makes this process part of a run on several hosts, if the flags say so."""
    from cellcount_jax.runtime import distributed

    one_of_several = (COORDINATOR.value, NUM_PROCESSES.value, PROCESS_ID.value)
    if not DISTRIBUTED.value and one_of_several == (None, None, None):
        return
    if MODE.value != "train":
        raise ValueError(f"--mode={MODE.value} runs on one host; several hosts only train")
    address, processes, number = one_of_several
    distributed.join(address, num_processes=processes, process_id=number)


def _is_first() -> bool:
    from cellcount_jax.runtime import distributed

    return distributed.is_first()


def default_workdir() -> str:
    """`runs/<config>_<preset>`, from the value of --config."""
    path, _, preset = config_flags.get_config_filename(flags.FLAGS["config"]).partition(":")
    return str(Path("runs") / "_".join(filter(None, (Path(path).stem, preset))))


def _train(workdir: epath.Path) -> None:
    from cellcount_jax.training import run as experiment

    results = experiment.train(CONFIG.value, workdir, download=DOWNLOAD.value)
    if _is_first():
        _print_results(results, workdir)


def _evaluate(workdir: epath.Path) -> None:
    from cellcount_jax.inference.counter import Counter
    from cellcount_jax.training import run as experiment
    from cellcount_jax.training import workdir as workdirs

    counter = Counter.load(workdir)
    workdirs.check_config(CONFIG.value, workdir)
    source = experiment.load_source(CONFIG.value, download=DOWNLOAD.value)
    results = experiment.evaluate_run(CONFIG.value, workdir, source, counter)
    _print_results(results, workdir)


def _predict(workdir: epath.Path) -> None:
    from cellcount_jax.inference.counter import Counter
    from cellcount_jax.io.images.find import list_images
    from cellcount_jax.prediction.predict_files import predict_files
    from cellcount_jax.reporting import overlays

    if not IMAGES.value:
        raise ValueError("--mode=predict needs --images=FILE_OR_FOLDER[,...]")
    out = _out_folder(workdir / "predictions")
    counter = Counter.load(workdir)
    paths = list_images([Path(p) for p in IMAGES.value])
    drawn = overlays.overlay_writer(out / "overlays")
    failed = predict_files(counter, paths, out, model=str(workdir), on_counted=drawn)
    print(f"{len(paths) - failed} images counted: {out / 'counts.csv'}")
    if failed:
        raise ValueError(f"{failed} of {len(paths)} files could not be counted; see the table")


def _explain(workdir: epath.Path) -> None:
    from cellcount_jax.inference.counter import Counter
    from cellcount_jax.io.images.find import list_images
    from cellcount_jax.reporting import explanation_report
    from cellcount_jax.training import run as experiment

    counter = Counter.load(workdir)
    out = _out_folder(workdir / "explanations")
    if IMAGES.value:
        subjects = explanation_report.subjects_of_files(
            list_images([Path(p) for p in IMAGES.value])
        )
    else:
        source = experiment.load_source(CONFIG.value, download=DOWNLOAD.value)
        subjects = explanation_report.subjects_of_samples(source.splits["test"][:N_EXPLAINED])
        counter = counter.without_resampling()
    failed = explanation_report.write_explanations(counter, subjects, out)
    print(f"{len(subjects) - failed} images explained: {out / 'explanation.html'}")
    if failed:
        raise ValueError(f"{failed} of {len(subjects)} images could not be explained; see the page")


def _out_folder(default: epath.Path) -> Path:
    if OUT.value is None and "://" in os.fspath(default):
        raise ValueError(f"{default} is not a local folder; give one with --out=FOLDER")
    return Path(OUT.value or default)


def _print_results(results: dict, workdir: epath.Path) -> None:
    keys = ("mae", "rmse", "bias", "patch_mae", "f1", "n_points_mae")
    shown = {key: results[key] for key in keys if results.get(key) is not None}
    print(json.dumps(shown))
    print(f"results: {workdir / 'results.json'}   report: {workdir / 'report.html'}")


def parse(argv: list[str]) -> list[str]:
    """Parses the flags; an error in them prints one line and exits with status 2."""
    try:
        return flags.FLAGS(argv)
    except (flags.Error, AttributeError, KeyError, TypeError) as error:
        message = str(error).replace("\\n", "\n").replace("\\'", "'")
        message = message[1:-1] if message[:1] == message[-1:] == "'" else message
        lines = [line.strip() for line in message.splitlines() if line.strip()]
        # A config that raises is quoted with its whole traceback; its last line says what is wrong.
        raised = [
            new for line in lines if (new := re.sub(r"^\w*(Error|Exception): ", "", line)) != line
        ]
        text = raised[-1] if raised else " ".join(lines)
        print(f"error: {text}", file=sys.stderr)
        sys.exit(2)


def run() -> None:
    """Entry for `python -m cellcount_jax.main`; Ctrl-C prints one line and exits with 130."""
    setup.stop_when_terminated()
    flags.mark_flag_as_required("config")
    try:
        app.run(main, flags_parser=parse)
    except (KeyboardInterrupt, ImportError) as error:
        stopped = setup.interruption(error)
        if stopped is None:
            raise
        print("stopped; the same command resumes", file=sys.stderr)
        setup.end_process(setup.exit_code(stopped))


if __name__ == "__main__":
    run()
