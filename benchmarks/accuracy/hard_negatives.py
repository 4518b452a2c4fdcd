"""Whether places marked as "not a cell" keep a counter from counting such places in new images.

    python -m benchmarks.accuracy.hard_negatives [--record]

Simulated images hold cells, and a few small bright specks. A counter is trained on four of them
by the lab's command, from their dots alone and again with the specks marked in `not_cells/`; then
twenty new images are counted. A speck counts as counted if a point
lies within five pixels.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from etils import epath
from PIL import Image

from benchmarks.output import add_arguments, finish, markdown, mean_and_sd
from cellcount_jax.evaluation.matching import match_points
from cellcount_jax.evaluation.metrics import localisation
from cellcount_jax.inference.counter import Counter
from cellcount_jax.io.annotations.dots import Dots, write_dots
from cellcount_jax.runtime.setup import configure_process
from cellcount_jax.simulation.simulate import simulate_cells
from cellcount_jax.training.lab.train_folder import train_folder

N_TRAIN, N_TEST, N_CELLS, N_SPECKS = 4, 20, 40, 2
SIDE, RADIUS, SPECK_RADIUS = 256, 5.0, 4.5


def image_with_specks(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """An image [H, W, C] uint8, the dots of its cells, and its specks, away from cells."""
    pixels, dots = simulate_cells(seed, (SIDE, SIDE), N_CELLS)
    rng = np.random.default_rng([seed, 1])
    pixels, specks = pixels.astype(np.float32), []
    grid = np.stack(np.meshgrid(np.arange(SIDE), np.arange(SIDE), indexing="ij"), axis=-1)
    while len(specks) < N_SPECKS:
        place = rng.uniform(10, SIDE - 10, 2)
        if np.linalg.norm(dots - place, axis=1).min() < 16:
            continue
        away = np.linalg.norm(grid - place, axis=-1)
        spot = np.clip(SPECK_RADIUS + 0.5 - away, 0, 1)[..., None]
        peak = np.percentile(pixels, 99.5, axis=(0, 1))
        pixels += spot * rng.uniform(0.6, 1.0) * np.maximum(peak - pixels, 0)
        specks.append(place)
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8), dots, np.array(specks, np.float32)


def make_folder(folder: Path, seeds: list[int], *, marked: bool) -> None:
    """Training images with dots, and with marked specks or without."""
    for name in ("images", "dots", "not_cells"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        pixels, dots, specks = image_with_specks(seed)
        Image.fromarray(pixels).save(folder / "images" / f"{seed}.png")
        write_dots(folder / "dots" / f"{seed}.csv", Dots(dots))
        if marked:
            write_dots(folder / "not_cells" / f"{seed}.csv", Dots(specks))


def measured(model: Path, seeds: list[int]) -> dict[str, float]:
    """Share of specks that are counted, and F1 of the cells."""
    counter, counted, matches = Counter.load(model), [], []
    for seed in seeds:
        pixels, dots, specks = image_with_specks(seed)
        points = counter.count(pixels).points
        assert points is not None
        near = np.linalg.norm(specks[:, None] - points[None], axis=-1) <= RADIUS
        counted += near.any(axis=1).tolist()
        matches.append(match_points(points, dots, radius=RADIUS))
    return {"specks_counted": float(np.mean(counted)), "f1": localisation(matches)["f1"]}


def one_draw(seed: int, work: Path, steps: int) -> dict[str, Any]:
    """Without and with marks, on the same images."""
    first = 1000 * (seed + 1)
    train, test = (
        list(range(first, first + N_TRAIN)),
        list(range(first + 500, first + 500 + N_TEST)),
    )
    found: dict[str, Any] = {"seed": seed}
    for name, marked in (("dots alone", False), ("marked", True)):
        place = work / f"{name.replace(' ', '_')}-{seed}-{steps}"
        make_folder(place, train, marked=marked)
        train_folder(place, epath.Path(place / "cellcount"), steps=steps, seed=seed)
        found[name] = measured(place / "cellcount", test)
    return found


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--steps", type=int, default=200, help="steps of training")
    add_arguments(parser)
    options = parser.parse_args()
    configure_process()
    work = options.out / "hard_negatives"
    rows = [one_draw(seed, work, options.steps) for seed in range(options.draws)]
    lines = [
        [name, *(mean_and_sd([r[name][key] for r in rows], digits=3)
                 for key in ("specks_counted", "f1"))]
        for name in ("dots alone", "marked")
    ]  # fmt: skip
    results = {"steps": options.steps, "draws": rows}
    head = ["trained on", "share of specks counted", "F1 of the cells"]
    finish(options, "hard_negatives", results, markdown(head, lines))


if __name__ == "__main__":
    main()
