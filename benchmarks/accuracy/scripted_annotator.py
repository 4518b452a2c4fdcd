"""A scripted annotator who corrects proposals and trains again, against full annotation.

    python -m benchmarks.accuracy.scripted_annotator [--draws 3] [--record]

Each draw takes 16 images of VGG 001 to 100. Full annotation: a click for every cell of all 16.
Correction: the bundled model proposes dots on the two images whose count it doubts most; the
annotator corrects them (a click is one add, removal or move; a dot is moved when it is more than
2.5 pixels off); a counter is trained on the two; it sorts the other 14 by doubt and proposes; the
annotator corrects them in this order; the counter is trained again, on all 16. Both counters are
trained by the lab's command and tested on the images 101 to 150: F1 at 5 pixels. The same command
resumes after a stop; finished draws, and finished trainings on full annotation, are not repeated.
"""

import argparse
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from etils import epath

from benchmarks.output import add_arguments, finish, markdown, mean_and_sd
from cellcount_jax.annotation import folder, propose, queue
from cellcount_jax.annotation.session import Session
from cellcount_jax.evaluation.matching import match_pairs, match_points
from cellcount_jax.evaluation.metrics import localisation
from cellcount_jax.inference.bundled import DEFAULT_MODEL
from cellcount_jax.inference.counter import Counter
from cellcount_jax.io.annotations.dots import read_dots, write_dots
from cellcount_jax.io.images.image import read_image
from cellcount_jax.runtime.replace_file import write_file
from cellcount_jax.runtime.setup import configure_process
from cellcount_jax.training.lab.train_folder import train_folder

N_IMAGES, N_FIRST = 16, 2
RADIUS, MOVE_BEYOND = 5.0, 2.5
CLICKS = ("add", "remove", "move")


def correct(session: Session, truth: np.ndarray) -> int:
    """Corrects the proposals of a session; returns the number of clicks."""
    before = len(session.done)
    ids = np.flatnonzero(session.is_counted())
    points = session.table.get(ids).points
    pairs, distances = match_pairs(points, truth, radius=RADIUS)
    for wrong in np.setdiff1d(np.arange(len(ids)), pairs[:, 0]):
        session.remove(ids[wrong])
    for (found, true), distance in zip(pairs, distances, strict=True):
        if distance > MOVE_BEYOND:
            session.move(int(ids[found]), truth[true])
    for missed in np.setdiff1d(np.arange(len(truth)), pairs[:, 1]):
        session.add(truth[missed])
    return sum(act.kind in CLICKS for act in session.done[before:])


def correct_images(
    project: folder.Project, images: list[Path], model: str | Path, truths: dict[str, np.ndarray]
) -> int:
    """Proposes, corrects and saves images in queue order; returns the number of clicks."""
    counter, clicks = Counter.load(model), 0
    for path in images:
        with folder.open_image(project, path) as (image, session):
            found = propose.by_model(counter, image)
            session.propose(found.points, found.scores)
            session.set_threshold(found.threshold)
            clicks += correct(session, truths[path.stem])
            folder.save(project, path, session)
    return clicks


def in_queue_order(project: folder.Project, model: str | Path, images: list[Path]) -> list[Path]:
    """Images, the most doubtful first."""
    names = [project.key(p) for p in images]
    doubts = queue.rank_folder(Counter.load(model), images, names)
    return [images[names.index(doubt.image)] for doubt in doubts]


def f1_of(model: Path, root: Path) -> float:
    """F1 at 5 pixels on the images 101 to 150."""
    counter, matches = Counter.load(model), []
    for number in range(101, 151):
        pixels, dots = _vgg(root, number)
        found = counter.count(pixels)
        assert found.points is not None
        matches.append(match_points(found.points, dots, radius=RADIUS))
    return localisation(matches)["f1"]


def finished_draw(seed: int, root: Path, work: Path, steps: int | None) -> dict[str, Any]:
    """The outcome of a draw, which is kept."""
    path = work / f"draw-{seed}.json"
    if path.exists():
        kept: dict[str, Any] = json.loads(path.read_text())
        return kept
    for name in ("corrected", "first"):  # of a draw that was stopped: its clicks were not kept
        shutil.rmtree(work / f"{name}-{seed}", ignore_errors=True)
    found = one_draw(seed, root, work, steps)
    write_file(path, json.dumps(found).encode())
    return found


def one_draw(seed: int, root: Path, work: Path, steps: int | None) -> dict[str, Any]:
    """Clicks and F1 of both ways."""
    numbers = np.random.default_rng(seed).choice(np.arange(1, 101), N_IMAGES, replace=False)
    places = {name: work / f"{name}-{seed}" for name in ("full", "corrected", "first")}
    truths = {}
    for number in sorted(numbers.tolist()):
        _, dots = _vgg(root, number)
        truths[f"{number:03d}cell"] = dots
        for place in places.values():
            (place / "images").mkdir(parents=True, exist_ok=True)
        for name in ("full", "corrected"):
            shutil.copy(root / "vgg_cells" / f"{number:03d}cell.png", places[name] / "images")
        (places["full"] / "dots").mkdir(exist_ok=True)
        write_dots(places["full"] / "dots" / f"{number:03d}cell.csv", dots)
    _train(places["full"], steps, seed)
    project = folder.open_project(places["corrected"])
    ordered = in_queue_order(project, DEFAULT_MODEL, list(project.images))
    clicks = [correct_images(project, ordered[:N_FIRST], DEFAULT_MODEL, truths)]
    shutil.copytree(places["corrected"] / "dots", places["first"] / "dots", dirs_exist_ok=True)
    for path in ordered[:N_FIRST]:
        shutil.copy(path, places["first"] / "images")
    model = _train(places["first"], steps, seed)
    rest = in_queue_order(project, model, ordered[N_FIRST:])
    clicks.append(correct_images(project, rest, model, truths))
    _train(places["corrected"], steps, seed)
    return {
        "seed": seed,
        "images": sorted(numbers.tolist()),
        "clicks_full": sum(len(dots) for dots in truths.values()),
        "clicks_first": clicks[0],
        "clicks_corrected": sum(clicks),
        "f1_full": f1_of(places["full"] / "cellcount", root),
        "f1_corrected": f1_of(places["corrected"] / "cellcount", root),
    }


def _train(place: Path, steps: int | None, seed: int) -> Path:
    train_folder(place, epath.Path(place / "cellcount"), steps=steps, seed=seed)
    return place / "cellcount"


def _vgg(root: Path, number: int) -> tuple[np.ndarray, np.ndarray]:
    path = root / "vgg_cells" / f"{number:03d}cell.png"
    dots = read_dots(path.with_name(f"{number:03d}dots.png"), format="dots_image")
    return read_image(path).pixels, dots.points


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--steps", type=int, help="of training; default: those of cellcount train")
    add_arguments(parser)
    options = parser.parse_args()
    configure_process()
    root, work = Path(os.environ["CELLCOUNT_RAW_DIR"]), options.out / "scripted_annotator"
    rows = [finished_draw(seed, root, work, options.steps) for seed in range(options.draws)]
    lines = [
        [name, *(mean_and_sd([r[f"{key}_{which}"] for r in rows], digits=digits)
                 for key, digits in (("clicks", 0), ("f1", 3)))]
        for name, which in (("16 images annotated in full", "full"),
                            ("16 images corrected in queue order", "corrected"))
    ]  # fmt: skip
    finish(options, "scripted_annotator", {"draws": rows}, markdown(["", "clicks", "F1"], lines))


if __name__ == "__main__":
    main()
