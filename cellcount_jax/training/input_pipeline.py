"""Feeds the steps of a stage: all data, resident on the device, or batches streamed from the host.

Small sets lie on the device whole and the jitted step draws its batch from them. Of larger ones
the host reads each batch, crops it and sends it while the step before runs. Both draw the same
rows and crops from the same keys; the losses differ by rounding alone. (Initial variables that
depend on the data, such as a head started at the mean count, see the first batch of a streamed set
and all of a resident one.)
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
"""The split that each stream of a plan reads."""

Splits = Mapping[str, Sequence[Sample]]


@dataclasses.dataclass(frozen=True)
class InputPipeline:
    """The batches of one stage.

    Attributes:
      example: stream -> fields on the host, by which variables are initialised.
      data: what every step takes: the resident data, or the shapes of a streamed batch.
      sampler: (what a step takes, step) -> augmented batch; runs inside the jitted step.
      open: from a step on, streamed batches on the device; None where data are resident.
    """

    example: Tree
    data: Tree
    sampler: Callable[[Any, jax.Array], Batch]
    open: Callable[[int], Generator[Tree, None, None]] | None = None

    @property
    def resident(self) -> Tree | None:
        """All data, if they are resident."""
        return self.data if self.open is None else None

    @contextlib.contextmanager
    def from_step(self, step: int) -> Iterator[Iterator[Tree]]:
        """What `step` takes, then the next, and so on."""
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
    """Resident data where they fit, once stacked, else streamed batches.

    Args:
      splits: the data.
      preprocessing: of whole images.
      stage: says what target its loss needs.
      plan: of the stage: batch sizes by stream, crops and augmentation.
      seed: of the run.
      mesh: of devices.
      on_device_mib: data of no more than so many MiB become resident; they are on every device.

    Raises:
      ValueError: a stream has no images, or the stage needs all data at once and they do not fit.
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
            f"stage {stage.name}: works on all its images at once, and they take more than "
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
    """Puts resident data on the devices, after the stage's own preparation of them."""
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
    """Batches from a step on, each put on the devices while the step before computes."""
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
    """How the rows of a batch lie on the devices, as `sharding.split_rows` wants them.

    Attributes:
      sharding: of every field.
      rows: those on this host's devices.
      size: of the whole batch.
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
        """Global arrays of the whole batch from the rows that this host has read."""

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


def _crop(plan: ConfigDict) -> tuple[int, ...] | None:
    return None if plan.crop is None else tuple(plan.crop)


def _changes(plan: ConfigDict) -> dict[str, Any]:
    jitter = augment.IntensityJitter(
        **{name: plan[name] for name in augment.IntensityJitter._fields}
    )
    return {"flips": plan.flips, "jitter": jitter}
