"""Predicts the maps of windows in batches of few shapes, on the local devices."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence

import jax
import numpy as np

from cellcount_jax.inference import tiling
from cellcount_jax.methods.base import Stage, Variables
from cellcount_jax.runtime import sharding

log = logging.getLogger(__name__)

CPU_BATCH_PIXELS = 2**20
"""Maximum number of pixels per batch on a CPU."""

BATCH_PIXELS = 2**23
"""Maximum number of pixels per batch on any other device."""

GLOBAL_WINDOW = {2: 256, 3: 64}
"""Window side for networks with global operations that give no size, by number of axes."""

Maps = dict[str, np.ndarray]


class OutOfDeviceMemoryError(RuntimeError):
    """One window alone is too large for the device.

    Attributes:
      shape: Space shape of the window.
    """

    def __init__(self, shape: Sequence[int]):
        self.shape = tuple(shape)
        sides = " x ".join(map(str, self.shape))
        super().__init__(
            f"a window of {sides} pixels does not fit into the device's memory; close other "
            "programs on it, or set JAX_PLATFORMS=cpu"
        )


class BatchedPredictor:
    """Predicts with a stage whose variables are placed on the local devices once.

    Batches are split over the devices. If a batch does not fit into their memory, batches are
    halved from then on; if a single window does not, `shrink` makes the windows smaller.

    Args:
      stage: Stage that predicts; its stride, halo and window determine how images are cut.
      variables: Variables of the stage. Host arrays are copied to every local device; arrays on
        devices stay where they are.
      predict: Jitted `stage.predict`, passed in so that several predictors share one compilation.
      batch_size: Maximum number of windows per device and batch.
      max_window: Longest side of a window if images can be cut anywhere; by default the stage's,
        else `tiling.MAX_WINDOW`.
    """

    def __init__(
        self,
        stage: Stage,
        variables: Variables,
        *,
        predict: Callable | None = None,
        batch_size: int = 8,
        max_window: int | None = None,
    ):
        self.stage = stage
        self._predict = predict or jax.jit(stage.predict)
        on_device = any(isinstance(x, jax.Array) for x in jax.tree.leaves(variables))
        self._mesh = None if on_device else sharding.local_mesh()
        self._variables = variables
        if self._mesh is not None:
            self._variables = jax.device_put(variables, sharding.replicated(self._mesh))
        self._batch_size = batch_size
        self._fitting: dict[tuple[int, ...], int] = {}
        self._max_window = max_window or stage.max_window

    def cut(
        self, shape: Sequence[int], *, offset: Sequence[int] | None = None
    ) -> list[tiling.Window]:
        """Windows of an image of space shape `shape`, which may extend beyond its far ends.

        Args:
          shape: Space shape of the image.
          offset: Origin of the grid of windows per axis, see `tiling.spans`.
        """
        stage, fixed = self.stage, fixed_window(self.stage, len(shape))
        padded = tiling.padded_shape(shape, stage.stride, window=fixed)
        window = fixed or tiling.choose_window(
            padded, halo=stage.halo or 0, stride=stage.stride, max_window=self._max_window
        )
        halo = overlap(stage, window)
        return tiling.windows(padded, window, halo=halo, stride=stage.stride, offset=offset)

    def maps(self, windows: Iterable[np.ndarray]) -> Iterator[Maps]:
        """Maps of windows [*space, C], in order.

        A batch holds windows of one shape; the next is read while one is computed. The last one
        is padded with zeros to a power of two.

        Raises:
          OutOfDeviceMemoryError: A single window does not fit.
        """
        running: tuple[list[np.ndarray], dict | Exception] | None = None
        for rows in self._batches(windows):
            started = self._start(rows)
            if running is not None:
                yield from self._finish(*running)
            running = rows, started
        if running is not None:
            yield from self._finish(*running)

    def shrink(self, shape: Sequence[int]) -> bool:
        """Makes windows smaller from now on; False if that is not possible.

        Args:
          shape: Space shape of the window that did not fit.
        """
        ndim, halo = len(shape), self.stage.halo or 0
        smaller = max(shape) // 2
        if fixed_window(self.stage, ndim) or smaller < 2 * halo + self.stage.stride:
            return False
        self._max_window = smaller
        log.warning("the device's memory is full; images are cut into windows of %d", smaller)
        return True

    def _devices(self) -> int:
        return 1 if self._mesh is None else self._mesh.size

    def _rows(self, shape: tuple[int, ...]) -> int:
        """Number of windows of one shape [*space, C] per batch."""
        platform = jax.local_devices()[0].platform
        budget = (CPU_BATCH_PIXELS if platform == "cpu" else BATCH_PIXELS) // int(
            np.prod(shape[:-1])
        )
        most = max(1, min(self._batch_size, budget))
        each = min(1 << (most.bit_length() - 1), self._fitting.get(shape, most))
        return each * self._devices()

    def _each(self, n: int) -> int:
        """Rows per device for `n` windows: a power of two, so that few shapes are compiled."""
        return 1 << (-(-n // self._devices()) - 1).bit_length()

    def _batches(self, windows: Iterable[np.ndarray]) -> Iterator[list[np.ndarray]]:
        rows: list[np.ndarray] = []
        for window in windows:
            if rows and window.shape != rows[0].shape:
                yield rows
                rows = []
            rows.append(window)
            if len(rows) >= self._rows(window.shape):
                yield rows
                rows = []
        if rows:
            yield rows

    def _start(self, rows: list[np.ndarray]) -> dict | Exception:
        """Dispatches a batch; an error is kept until its maps are needed."""
        size = self._each(len(rows)) * self._devices()
        batch = np.zeros((size, *rows[0].shape), np.float32)
        for i, window in enumerate(rows):
            batch[i] = window
        try:
            return self._predict(self._variables, self._placed(batch))
        except jax.errors.JaxRuntimeError as error:
            return error

    def _placed(self, batch: np.ndarray) -> jax.Array | np.ndarray:
        return batch if self._mesh is None else jax.device_put(batch, sharding.split(self._mesh))

    def _finish(self, rows: list[np.ndarray], started: dict | Exception) -> Iterator[Maps]:
        try:
            if isinstance(started, Exception):
                raise started
            found = jax.device_get(started)
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            yield from self._halved(rows, error)
            return
        for row in range(len(rows)):
            yield {name: value[row] for name, value in found.items()}

    def _halved(self, rows: list[np.ndarray], error: Exception) -> Iterator[Maps]:
        shape, each = rows[0].shape, self._each(len(rows))
        if each == 1:
            raise OutOfDeviceMemoryError(shape[:-1]) from error
        if each // 2 < self._fitting.get(shape, each):
            self._fitting[shape] = each // 2
            log.warning("the device's memory is full; windows are computed %d at a time", each // 2)
        half = each // 2 * self._devices()
        for batch in (rows[:half], rows[half:]):
            if batch:
                yield from self._finish(batch, self._start(batch))


def fixed_window(stage: Stage, ndim: int) -> tuple[int, ...] | None:
    """Window sides for a network with global operations; None for any other."""
    if stage.window is None and stage.halo is not None:
        return None
    window = stage.window or GLOBAL_WINDOW[ndim]
    return tuple(int(side) for side in np.broadcast_to(window, ndim))


def overlap(stage: Stage, window: Sequence[int]) -> tuple[int, ...]:
    """Halo of windows along each axis.

    With fixed windows no halo makes the map exact: it only reduces border effects, and is at most
    a quarter of the window.
    """
    halo, stride = stage.halo or 0, stage.stride
    if fixed_window(stage, len(window)) is None:
        return (halo,) * len(window)
    return tuple(min(halo, side // (4 * stride) * stride) for side in window)
