"""Feeds the steps of a stage: all data, resident on the device, or batches streamed from the host.

Small datasets reside on the device and the jitted step draws its batch from them. For larger ones
the host reads and crops each batch and transfers it while the previous step runs. Both draw the
same rows and crops from the same keys; the losses differ only by rounding. (Initial variables that
depend on the data, such as a head initialised to the mean count, see the first batch of a streamed
dataset and all of a resident one.)
"""

import contextlib
import dataclasses
import functools
import itertools
import logging
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from cellcount_jax.data import augment, batches, streaming
from cellcount_jax.data.preprocess import Preprocessing
from cellcount_jax.data.sample import Sample
from cellcount_jax.methods.base import Batch, Stage, Tree
from cellcount_jax.runtime import sharding

log = logging.getLogger(__name__)

STREAM_TO_SPLIT = {"labelled": "train", "unlabelled": "unlabelled"}
"""The split that each stream of a plan reads from."""

Splits = Mapping[str, Sequence[Sample]]


@dataclasses.dataclass(frozen=True)
class InputPipeline:
    """The batches of one stage.

    Attributes:
      example: Fields on the host by stream, used to initialise variables.
      data: Input of every step: the resident data, or the shapes of a streamed batch.
      sampler: (input of a step, step) -> augmented batch; runs inside the jitted step.
      open: Opens streamed batches on the device from a step on; None if data are resident.
    """

    example: Tree
    data: Tree
    sampler: Callable[[Any, jax.Array], Batch]
    open: Callable[[int], Generator[Tree, None, None]] | None = None

    @property
    def resident(self) -> Tree | None:
        """All data if they are resident, else None."""
        return self.data if self.open is None else None

    @contextlib.contextmanager
    def from_step(self, step: int) -> Iterator[Iterator[Tree]]:
        """The inputs of `step` and all steps after it."""
        if self.open is None:
            yield itertools.repeat(self.data)
        else:
            with contextlib.closing(self.open(step)) as streamed:
                yield streamed


def build(
    splits: Splits,
    preprocessing: Preprocessing,
    stage: Stage,
    plan: ConfigDict,
    *,
    seed: int,
    mesh: Mesh,
    on_device_mib: float,
) -> InputPipeline:
    """Resident data if they fit once stacked, else streamed batches.

    Args:
      splits: The data.
      preprocessing: Preprocessing of whole images.
      stage: Stage, which says what target its loss needs.
      plan: Plan of the stage: batch sizes by stream, crops and augmentation.
      seed: Seed of the run.
      mesh: Mesh of devices.
      on_device_mib: Data up to this many MiB become resident; every device holds a copy.

    Raises:
      ValueError: A stream has no images, or the stage needs all data at once and they do not fit.
    """
    streams = {name: splits.get(STREAM_TO_SPLIT[name], []) for name in plan.batch_size}
    for name, samples in streams.items():
        if not samples:
            raise ValueError(
                f"stage {stage.name}: there are no {name} images; add some"
                + (", or train with the preset supervised" if name == "unlabelled" else "")
            )
    fits = streaming.fits_device(
        streams.values(), on_device_mib * 2**20, channels=preprocessing.channels, crop=_crop(plan)
    )
    if fits:
        return _resident(streams, preprocessing, stage, plan, seed)
    if stage.prepare or stage.between_epochs or stage.finish:
        raise ValueError(
            f"stage {stage.name}: needs all its images at once, and they take more than "
            f"{on_device_mib} MiB; raise config.data.on_device_mib or lower config.data.n_train"
        )
    if plan.mosaic:
        raise ValueError(
            f"stage {stage.name}: mosaics are made of images in memory, and these take more than "
            f"{on_device_mib} MiB; raise config.data.on_device_mib or set stages.{stage.name}"
            ".mosaic to 0"
        )
    log.info("stage %s: more than %g MiB, streamed from the host", stage.name, on_device_mib)
    return _streamed(streams, preprocessing, stage, plan, seed, mesh)


def to_device(pipeline: InputPipeline, stage: Stage, frozen: Tree, mesh: Mesh) -> InputPipeline:
    """Prepares resident data as the stage asks and puts them on the devices."""
    if pipeline.open is not None:
        return pipeline
    data = pipeline.data if stage.prepare is None else stage.prepare(pipeline.data, frozen)
    return dataclasses.replace(pipeline, data=jax.device_put(data, sharding.replicated(mesh)))


def _resident(
    streams: Splits, preprocessing: Preprocessing, stage: Stage, plan: ConfigDict, seed: int
) -> InputPipeline:
    data = {
        name: batches.stack_samples(
            samples,
            preprocessing,
            target=_target(stage, name),
            weight=_weight(stage, name, samples),
            crop=_crop(plan),
            multiple=stage.stride,
        )
        for name, samples in streams.items()
    }

    def sampler(data: Tree, step: jax.Array) -> Batch:
        return batches.sample_batch(
            data,
            step,
            jax.random.key(seed),
            sizes=plan.batch_size,
            crop=_crop(plan),
            mosaic=plan.mosaic,
            **_changes(plan),
        )

    return InputPipeline(example=data, data=data, sampler=sampler)


def _streamed(
    streams: Splits,
    preprocessing: Preprocessing,
    stage: Stage,
    plan: ConfigDict,
    seed: int,
    mesh: Mesh,
) -> InputPipeline:
    layouts = {name: BatchLayout.of(plan.batch_size[name], mesh) for name in streams}
    readers = {
        name: functools.partial(
            streaming.open_stream,
            streams[name],
            preprocessing,
            batch_size=plan.batch_size[name],
            seed=seed,
            target=_target(stage, name),
            weight=_weight(stage, name, streams[name]),
            crop=_crop(plan),
            multiple=stage.stride,
            number=number,
        )
        for number, name in enumerate(sorted(streams))
    }

    def sampler(batch: Tree, step: jax.Array) -> Batch:
        return batches.augment_batch(batch, step, jax.random.key(seed), **_changes(plan))

    example = {name: _first(reader) for name, reader in readers.items()}
    return InputPipeline(
        example=example,
        data={name: layouts[name].shapes(rows) for name, rows in example.items()},
        sampler=sampler,
        open=functools.partial(_open, readers, layouts),
    )


def _open(
    readers: Mapping[str, Callable[..., Any]], layouts: Mapping[str, "BatchLayout"], step: int
) -> Generator[Tree, None, None]:
    """Batches from a step on, each transferred while the previous step computes."""
    with contextlib.ExitStack() as stack:
        opened = {
            name: stack.enter_context(
                contextlib.closing(reader(start_step=step, rows=layouts[name].rows))
            )
            for name, reader in readers.items()
        }

        def load() -> Tree:
            return {name: layouts[name].put(next(rows)) for name, rows in opened.items()}

        following = load()
        while True:
            ready, following = following, load()
            yield ready


@dataclasses.dataclass(frozen=True)
class BatchLayout:
    """How the rows of a batch are distributed over the devices (see `sharding.split_rows`).

    Attributes:
      sharding: Sharding of every field.
      rows: Rows on this host's devices.
      size: Size of the whole batch.
    """

    sharding: NamedSharding
    rows: list[int]
    size: int

    @classmethod
    def of(cls, batch_size: int, mesh: Mesh) -> "BatchLayout":
        spec = PartitionSpec("data" if batch_size % mesh.size == 0 else None)
        layout = NamedSharding(mesh, spec)
        slices = layout.addressable_devices_indices_map((batch_size,)).values()
        every = np.arange(batch_size)
        return cls(layout, np.unique([every[s] for s in slices]).tolist(), batch_size)

    def put(self, rows: Mapping[str, np.ndarray]) -> dict[str, jax.Array]:
        """Global arrays of the whole batch, from the rows that this host has read."""

        def place(value: np.ndarray) -> jax.Array:
            shape = (self.size, *value.shape[1:])
            return jax.make_array_from_process_local_data(self.sharding, value, shape)

        return {name: place(value) for name, value in rows.items()}

    def shapes(self, rows: Mapping[str, np.ndarray]) -> dict[str, jax.ShapeDtypeStruct]:
        """What `put` returns, without data."""
        return {
            name: jax.ShapeDtypeStruct(value.shape, value.dtype, sharding=self.sharding)
            for name, value in rows.items()
        }


def _first(reader: Callable[..., Any]) -> dict[str, np.ndarray]:
    """The whole batch of step 0, the same on every host."""
    with contextlib.closing(reader(threads=0)) as rows:
        return next(rows)


def _target(stage: Stage, name: str) -> batches.Target | None:
    return stage.target if name == "labelled" else None


def _weight(stage: Stage, name: str, samples: Sequence[Sample]) -> batches.Target | None:
    """The weight of the loss, where a sample has places marked as no cell."""
    marked = name == "labelled" and any(s.not_cells is not None for s in samples)
    return stage.weight if marked else None


def _crop(plan: ConfigDict) -> tuple[int, ...] | None:
    return None if plan.crop is None else tuple(plan.crop)


def _changes(plan: ConfigDict) -> dict[str, Any]:
    jitter = augment.IntensityJitter(
        **{name: plan[name] for name in augment.IntensityJitter._fields}
    )
    return {"flips": plan.flips, "jitter": jitter}
