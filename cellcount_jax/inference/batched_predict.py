"""A stage's network on the devices at hand: windows in, maps out, in batches of few shapes."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence

import jax
import numpy as np

from cellcount_jax.inference import tiling
from cellcount_jax.methods.base import Stage, Variables
from cellcount_jax.runtime import sharding

log = logging.getLogger(__name__)

PIXELS_AT_ONCE = {"cpu": 2**20}
"""Pixels of a batch on one device, by platform; others take `PIXELS_ELSEWHERE`."""

PIXELS_ELSEWHERE = 2**23

Maps = dict[str, np.ndarray]


WINDOW_OF_GLOBAL = {2: 256, 3: 64}
"""Side of the windows of networks that look at a window as a whole and name no size of it."""


class OutOfDeviceMemoryError(RuntimeError):
    """One window alone is too large for the device.

    Attributes:
      shape: space shape of the window.
    """

    def __init__(self, shape: Sequence[int]):
        self.shape = tuple(shape)
        sides = " x ".join(map(str, self.shape))
        super().__init__(
            f"a window of {sides} pixels does not fit into the device's memory; close other "
            "programs on it, or set JAX_PLATFORMS=cpu"
        )


class Network:
    """A stage's network with its variables placed on the local devices, once.

    Batches are split over the devices. Where a batch does not fit into their memory, it is halved
    from then on; where one window does not, `shrink` makes the windows smaller.

    Args:
      stage: predicts; its stride, halo and window say how images may be cut.
      variables: of the stage. Host arrays are copied to every local device; arrays on devices
        stay where they are.
      predict: jitted `stage.predict`, so that one compilation serves many networks.
      batch_size: most windows on a device that are computed together.
      largest: longest side of a window, where the network can be cut anywhere; by default the
        stage's, else `tiling.LARGEST`.
    """

    def __init__(
        self,
        stage: Stage,
        variables: Variables,
        *,
        predict: Callable | None = None,
        batch_size: int = 8,
        largest: int | None = None,
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
        self._largest = largest or stage.largest

    def cut(
        self, shape: Sequence[int], *, offset: Sequence[int] | None = None
    ) -> tuple[tuple[int, ...], list[tiling.Window]]:
        """Padded shape and windows of an image of space shape `shape`.

        Args:
          shape: of the image.
          offset: of the grid of windows per axis, see `tiling.spans`.
        """
        stage, fixed = self.stage, fixed_window(self.stage, len(shape))
        padded = tiling.padded_shape(shape, stage.stride, window=fixed)
        window = fixed or tiling.choose_window(
            padded, halo=stage.halo or 0, stride=stage.stride, largest=self._largest
        )
        halo = overlap(stage, window)
        found = tiling.windows(padded, window, halo=halo, stride=stage.stride, offset=offset)
        return padded, found

    def maps(self, windows: Iterable[np.ndarray]) -> Iterator[Maps]:
        """Maps of windows [*space, C], in order.

        A batch holds windows of one shape; the next is read while one is computed. The last one
        is filled with zeros to a power of two.

        Raises:
          OutOfDeviceMemoryError: a single window does not fit.
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
        """Makes windows smaller from now on; False if they cannot be.

        Args:
          shape: space shape of the window that did not fit.
        """
        ndim, halo = len(shape), self.stage.halo or 0
        smaller = max(shape) // 2
        if fixed_window(self.stage, ndim) or smaller < 2 * halo + self.stage.stride:
            return False
        self._largest = smaller
        log.warning("the device's memory is full; images are cut into windows of %d", smaller)
        return True

    def _devices(self) -> int:
        return 1 if self._mesh is None else self._mesh.size

    def _rows(self, shape: tuple[int, ...]) -> int:
        """Windows of one shape [*space, C] that are computed together."""
        platform = jax.local_devices()[0].platform
        budget = PIXELS_AT_ONCE.get(platform, PIXELS_ELSEWHERE) // int(np.prod(shape[:-1]))
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
        """Begins to compute a batch; what goes wrong is kept until its maps are wanted."""
        size = self._each(len(rows)) * self._devices()
        batch = np.zeros((size, *rows[0].shape), np.float32)
        batch[: len(rows)] = rows
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
            yield from self._by_halves(rows, error)
            return
        for row in range(len(rows)):
            yield {name: value[row] for name, value in found.items()}

    def _by_halves(self, rows: list[np.ndarray], error: Exception) -> Iterator[Maps]:
        shape, each = rows[0].shape, self._each(len(rows))
        if each == 1:
            raise OutOfDeviceMemoryError(shape[:-1]) from error
        if each // 2 < self._fitting.get(shape, each):
            self._fitting[shape] = each // 2
            log.warning("the device's memory is full; windows are computed %d at a time", each // 2)
        half = each // 2 * self._devices()
        for part in (rows[:half], rows[half:]):
            if part:
                yield from self._finish(part, self._start(part))


def fixed_window(stage: Stage, ndim: int) -> tuple[int, ...] | None:
    """Sides of the window of a network that looks at a window as a whole; None for any other."""
    if stage.window is None and stage.halo is not None:
        return None
    window = stage.window or WINDOW_OF_GLOBAL[ndim]
    return tuple(int(side) for side in np.broadcast_to(window, ndim))


def overlap(stage: Stage, window: Sequence[int]) -> tuple[int, ...]:
    """Halo of windows along each axis.

    Where windows are fixed it makes nothing exact and only keeps the worst of a window's rim out:
    there it is a quarter of the window at most.
    """
    halo, stride = stage.halo or 0, stage.stride
    if fixed_window(stage, len(window)) is None:
        return (halo,) * len(window)
    return tuple(min(halo, side // (4 * stride) * stride) for side in window)
