"""Rate of the input pipeline against the rate at which the default counter's step consumes crops.

    python -m benchmarks.speed.input_pipeline                    # a minute or two on two idle cores
    CELLCOUNT_RAW_DIR=DIR python -m benchmarks.speed.input_pipeline --out DIR

Crops of 128x128, batches of 8, from images of 2048x2048 with 1,000 dots (random 8-bit pixels)
and from the VGG cell set (simulated cells without the raw files). `resident` draws batches from
data on the device; `streamed` reads, crops, prepares and sends them from the host; `records` does
so from prepared files on disk in place of memory. `step` is the training step on one batch over
and over: what a device consumes if it never waits. `training` is the whole loop of steps.

Every figure is the median of several repeats, in turn with the others, in images per second;
warm-up and compilation are excluded. Writes input_pipeline.json and input_pipeline.md.
"""

import argparse
import contextlib
import dataclasses
import importlib.metadata
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from benchmarks.output import add_arguments, finish, markdown, median_and_range, shown
from cellcount_jax import defaults
from cellcount_jax.data import streaming
from cellcount_jax.data.preprocess import Preprocessing
from cellcount_jax.data.sample import Sample
from cellcount_jax.datasets import load, tfds_builder
from cellcount_jax.datasets.registry import BENCHMARKS
from cellcount_jax.methods import build_stages
from cellcount_jax.runtime import sharding
from cellcount_jax.simulation import simulate
from cellcount_jax.training import input_pipeline, optimizer
from cellcount_jax.training.step import create_state, make_step

CROP = (128, 128)
BATCH = 8
VGG = BENCHMARKS["vgg_cells"]

Advance = Callable[[], Any]
"""Makes one batch more and returns something to wait for."""

Opener = Callable[[], contextlib.AbstractContextManager[Advance]]


def large_images(n: int = 4, side: int = 2048, dots: int = 1000) -> list[Sample]:
    """Random 8-bit images; their content does not affect the speed."""
    rng = np.random.default_rng(0)
    return [
        Sample(
            name=f"large{i}",
            image=rng.integers(0, 256, (side, side, 1), dtype=np.uint8),
            dots=rng.uniform(0, side - 1, (dots, 2)).astype(np.float32),
        )
        for i in range(n)
    ]


def vgg_images(n: int = 50) -> tuple[str, list[Sample]]:
    """The first images of the VGG set, or simulated ones, and what they are."""
    raw = load.find_raw(VGG)
    if raw is None:
        return "simulated VGG cells", list(simulate.simulate_dataset(0, n, (256, 256), "vgg"))
    return "VGG cells", list(itertools.islice(VGG.read(raw), n))


def as_records(samples: Sequence[Sample], folder: Path) -> Sequence[Sample]:
    """The same samples, decoded from prepared files whenever one is asked for."""
    benchmark = dataclasses.replace(
        VGG, name="large", channels=1, archive=None, read=lambda _: iter(samples)
    )
    return tfds_builder.prepare(benchmark, folder, data_dir=folder, name="large")


def settings() -> ConfigDict:
    """Config of the default counter with this benchmark's crops and batches."""
    config = defaults.density()
    plan = config.stages.density
    plan.crop, plan.batch_size.labelled = CROP, BATCH
    return config


def streamed(samples: Sequence[Sample], config: ConfigDict, threads: int) -> Opener:
    """Batches of the host, sent to the device."""
    (stage,) = build_stages(config)

    @contextlib.contextmanager
    def opened() -> Iterator[Advance]:
        rows = streaming.open_stream(
            samples,
            Preprocessing.from_dict(config.preprocessing.to_dict()),
            batch_size=BATCH,
            seed=0,
            target=stage.target,
            crop=CROP,
            threads=threads,
        )
        with contextlib.closing(rows):
            yield lambda: jax.device_put(next(rows))

    return opened


def training(samples: Sequence[Sample], config: ConfigDict, on_device_mib: float) -> list[Opener]:
    """Openers of the sampler alone, of steps on one batch, and of steps on the pipeline's."""
    (stage,) = build_stages(config)
    mesh = sharding.data_mesh()
    plan = config.stages.density
    pipeline = input_pipeline.build(
        {"train": samples},
        Preprocessing.from_dict(config.preprocessing.to_dict()),
        stage,
        plan,
        seed=0,
        mesh=mesh,
        on_device_mib=on_device_mib,
    )
    pipeline = input_pipeline.to_device(pipeline, stage, {}, mesh)
    tx = optimizer.from_config(plan.optimizer, steps=1000, steps_per_epoch=100)
    variables = stage.init(jax.random.key(0), pipeline.example, {})
    state = create_state(variables, tx, ema_decay=plan.ema_decay)
    state = jax.device_put(state, sharding.replicated(mesh))
    jitted = make_step(stage, tx, pipeline.sampler, mesh, seed=0, ema_decay=plan.ema_decay)
    step = jitted.lower(state, {}, pipeline.data).compile()
    sampler = jax.jit(pipeline.sampler)

    @contextlib.contextmanager
    def sampling() -> Iterator[Advance]:
        numbers = itertools.count()
        with pipeline.from_step(0) as given:
            yield lambda: sampler(next(given), next(numbers))

    @contextlib.contextmanager
    def stepping(*, repeated: bool) -> Iterator[Advance]:
        with pipeline.from_step(0) as given:
            batches = itertools.repeat(next(given)) if repeated else given

            def advance() -> Any:
                nonlocal state
                state, metrics = step(state, {}, next(batches))
                return metrics

            yield advance

    return [
        sampling,
        lambda: stepping(repeated=True),
        lambda: stepping(repeated=False),
    ]


def variants(samples: Sequence[Sample], config: ConfigDict, folder: Path) -> dict[str, Opener]:
    """Everything measured on one set, by name."""
    draw, _, train_resident = training(samples, config, float("inf"))
    _, step, train_streamed = training(samples, config, 0)
    found = {
        "step": step,
        "resident": draw,
        "streamed, 1 thread": streamed(samples, config, 1),
        "streamed, 2 threads": streamed(samples, config, 2),
    }
    if samples[0].image.shape[-1] == 1:
        decoded = as_records(samples, folder)
        found["records, 1 thread"] = streamed(decoded, config, 1)
        found["records, 2 threads"] = streamed(decoded, config, 2)
    return {**found, "training, resident": train_resident, "training, streamed": train_streamed}


def rate(opener: Opener, seconds: float) -> float:
    """Images per second."""
    with opener() as advance:
        done = advance()
        started = time.monotonic()
        # Not longer than needed to use up what was read ahead while nothing was asked for.
        for _ in range(2 + 2 * streaming.PREFETCH_PER_THREAD):
            jax.block_until_ready(done)
            if time.monotonic() - started > seconds:
                break
            done = advance()
        jax.block_until_ready(done)
        started, n = time.monotonic(), 0
        while time.monotonic() - started < seconds or n < 4:
            following = advance()
            jax.block_until_ready(done)  # one behind, as the training loop does
            done, n = following, n + 1
        jax.block_until_ready(done)
        return n * BATCH / (time.monotonic() - started)


def measure(openers: dict[str, Opener], repeats: int, seconds: float) -> dict[str, Any]:
    """Median, minimum and maximum rate of each; all take turns, so that a drift hits all."""
    for opener in openers.values():
        rate(opener, 0.0)
    found: dict[str, list[float]] = {name: [] for name in openers}
    for _ in range(repeats):
        for name, opener in openers.items():
            found[name].append(rate(opener, seconds))
    step = statistics.median(found["step"])
    return {
        name: {
            "images_per_second": median_and_range(rates),
            "of_step": statistics.median(rates) / step,
        }
        for name, rates in found.items()
    }


def table(results: dict[str, Any]) -> str:
    """Markdown."""
    about = (
        f"Images per second, crops of {CROP[0]}x{CROP[1]}, batches of {BATCH}, "
        f"on {results['device']}; median (minimum to maximum) of {results['repeats']} repeats."
    )
    rows = [
        [images, name, shown(row["images_per_second"], digits=0), f"{row['of_step']:.2f}"]
        for images, found in results["sets"].items()
        for name, row in found.items()
    ]
    head = ["images", "what", "images/s", "of what the step consumes"]
    return f"{about}\n\n{markdown(head, rows)}\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add_arguments(parser)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.3, help="of one measurement")
    options = parser.parse_args()
    name, cells = vgg_images()
    sets = {"random 2048x2048": large_images(), name: cells}
    measured = {}
    with tempfile.TemporaryDirectory() as folder:
        for images, samples in sets.items():
            openers = variants(samples, settings(), Path(folder))
            measured[images] = measure(openers, options.repeats, options.seconds)
    results = {
        "device": sharding.describe_device(),
        "cores": os.cpu_count(),
        "versions": {p: importlib.metadata.version(p) for p in ("jax", "grain", "numpy")},
        "crop": CROP,
        "batch_size": BATCH,
        "repeats": options.repeats,
        "sets": measured,
    }
    finish(options, "input_pipeline", results, table(results))


if __name__ == "__main__":
    main()
